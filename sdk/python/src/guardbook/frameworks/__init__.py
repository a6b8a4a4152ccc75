"""One module a framework. None is imported before it is used: ``Guard.langchain()``,
``Guard.crewai()``, ``Guard.openai_agents()``, ``Guard.claude()`` and ``Guard.wrap()``
import the one that they need.

The modules hook, ask and obey. What is allowed is decided by the server alone.
"""
