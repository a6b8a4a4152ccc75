"""The Claude Agent SDK, guarded by its hooks: ``python examples/claude/main.py``"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import clinic

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, UserMessage, create_sdk_mcp_server, query, tool

from guardbook import Guard

clinic.start_server("clinic-claude")
llm = clinic.model("anthropic", prefix="mcp__clinic__")
guard = Guard(agent="clinic-claude")


@tool("read_document", "Reads a document of the practice.", {"name": str})
async def read_document(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": clinic.read_document(given["name"])}]}


@tool("query_database", "Runs a read-only SQL query (PostgreSQL).", {"query": str})
async def query_database(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": clinic.query_database(given["query"])}]}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ClaudeAgentOptions(
            model=llm["model"],
            system_prompt=clinic.INSTRUCTIONS,
            mcp_servers={"clinic": create_sdk_mcp_server("clinic", tools=[read_document, query_database])},
            allowed_tools=["mcp__clinic__read_document", "mcp__clinic__query_database"],
            setting_sources=[],
            cwd=folder,
            env={
                "ANTHROPIC_BASE_URL": llm["url"],
                "ANTHROPIC_API_KEY": llm["key"],
                "CLAUDE_CONFIG_DIR": folder,
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            },
        )
        async for message in query(prompt=clinic.QUESTION, options=guard.claude(options)):
            if isinstance(message, UserMessage):
                clinic.show("tool result", [getattr(b, "content", b) for b in message.content])
            elif isinstance(message, ResultMessage):
                clinic.show("answer", message.result)


asyncio.run(main())
