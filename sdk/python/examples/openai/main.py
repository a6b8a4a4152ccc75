"""The plain OpenAI client, guarded by one line: ``python examples/openai/main.py``"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from openai import OpenAI

from guardbook import Guard, GuardBlocked

clinic.start_server("clinic-openai")
llm = clinic.model("openai")

guard = Guard(agent="clinic-openai")
client = guard.wrap(OpenAI(api_key=llm["key"], base_url=llm["url"]))

messages = [{"role": "system", "content": clinic.INSTRUCTIONS}, {"role": "user", "content": clinic.QUESTION}]
for attempt in (messages, [*messages, {"role": "user", "content": clinic.read_document("intake-form-4711")}]):
    try:
        answer = client.chat.completions.create(model=llm["model"], messages=attempt).choices[0].message
        clinic.show("model", answer.content or answer.tool_calls)
    except GuardBlocked as blocked:
        clinic.show("guard", f"{blocked} (entry {blocked.entry})")
