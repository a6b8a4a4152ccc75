"""A CrewAI crew, guarded by one line: ``python examples/crewai/main.py``"""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from crewai import Agent, Crew, Task
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tools import tool

from guardbook import Guard

logging.disable(logging.WARNING)  # CrewAI does not know the stand-in's name
clinic.start_server("clinic-crewai")
llm = clinic.model("openai")

guard = Guard(agent="clinic-crewai")
guard.crewai()  # before Crew(...)

agent = Agent(
    role="clerk",
    goal="Help patients with their appointments",
    backstory=clinic.INSTRUCTIONS,
    tools=[tool("read_document")(clinic.read_document), tool("query_database")(clinic.query_database)],
    llm=OpenAICompletion(model=llm["model"], api_key=llm["key"], base_url=llm["url"]),
)
task = Task(description=clinic.QUESTION, expected_output="the time of the appointment", agent=agent)
clinic.show("answer", Crew(agents=[agent], tasks=[task]).kickoff())
