"""A LangChain agent, guarded by one line: ``python examples/langchain/main.py``"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from guardbook import Guard

clinic.start_server("clinic-langchain")
llm = clinic.model("openai")

guard = Guard(agent="clinic-langchain")
agent = create_agent(
    ChatOpenAI(model=llm["model"], api_key=llm["key"], base_url=llm["url"]),
    tools=[clinic.read_document, clinic.query_database],
    system_prompt=clinic.INSTRUCTIONS,
    middleware=[guard.langchain()],  # last in the list
)
state = agent.invoke({"messages": [("user", clinic.QUESTION)]}, {"configurable": {"thread_id": "example"}})
for message in state["messages"]:
    clinic.show(message.type, message.text or [call["name"] for call in getattr(message, "tool_calls", [])])
