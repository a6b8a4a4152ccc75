"""The OpenAI Agents SDK: ``python examples/openai_agents/main.py``"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from guardbook import Guard

clinic.start_server("clinic-openai-agents")
llm = clinic.model("openai")
set_tracing_disabled(True)

guard = Guard(agent="clinic-openai-agents")
agent = guard.wrap(
    Agent(
        "clinic",
        instructions=clinic.INSTRUCTIONS,
        tools=[function_tool(clinic.read_document), function_tool(clinic.query_database)],
        model=OpenAIChatCompletionsModel(llm["model"], AsyncOpenAI(api_key=llm["key"], base_url=llm["url"])),
    )
)
result = Runner.run_sync(agent, clinic.QUESTION)
for item in result.new_items:
    clinic.show(item.type, getattr(item, "output", "") or item.raw_item)
clinic.show("answer", result.final_output)
