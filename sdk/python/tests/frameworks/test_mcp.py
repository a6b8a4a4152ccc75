"""MCP sessions of the official SDK, against its own server over stdio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp.types as types
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from stage import INJECTION, SECRET, Stage

from guardbook import GuardBlocked

arun = asyncio.new_event_loop().run_until_complete
NEW = not hasattr(types.CallToolResult(content=[]), "isError")


def is_error(result: Any) -> bool:
    return bool(result.is_error if NEW else result.isError)


def text(result: Any) -> str:
    return "".join(c.text for c in result.content if c.type == "text")


@contextlib.asynccontextmanager
async def session(guard: Any, wrap_first: bool = True, **callbacks: Any) -> AsyncIterator[Any]:
    params = StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("mcp_server.py"))])
    async with stdio_client(params) as (read, write), ClientSession(read, write, **callbacks) as opened:
        if wrap_first:
            opened = guard.wrap(opened, server="crm")
        await opened.initialize()
        yield guard.wrap(opened, server="crm")


def test_calls_and_results(stage: Stage) -> None:
    name = stage.agent()

    async def main() -> None:
        async with session(stage.guard(name)) as s:
            denied = await s.call_tool("delete_everything", {})
            assert is_error(denied)
            assert "nobody deletes" in text(denied)
            poisoned = await s.call_tool("read_document", {"name": "poisoned"})
            assert is_error(poisoned)
            assert "maintenance" not in text(poisoned)
            secret = await s.call_tool("read_document", {"name": "secret"})
            assert not is_error(secret)
            assert text(secret) == "the key is [REDACTED:secret], keep it"
            assert text(await s.call_tool("echo", {"text": f"use {SECRET} now"})) == "use [REDACTED:secret] now"
            assert is_error(await s.call_tool("fails", {"why": "x"}))
            assert "maintenance" not in text(await s.call_tool("fails", {"why": "x"}))

    arun(main())
    book = stage.book(name)
    assert {e["tool"]["server"] for e in book if e.get("tool")} == {"crm"}
    assert {e["path"] for e in book} == {"inspect/python/mcp"}
    assert [e["decision"] for e in book if e["kind"] == "tool_call"] == [
        "block",
        "allow",
        "allow",
        "redact",
        "allow",
        "allow",
    ]


def test_structured_results_keep_their_shape_or_become_errors(stage: Stage) -> None:
    async def main() -> None:
        async with session(stage.guard()) as s:
            for kind, note in (("plain", "fine"), ("secret", "key [REDACTED:secret]")):
                result = await s.call_tool("structured", {"kind": kind})
                held = result.structured_content if NEW else result.structuredContent
                assert not is_error(result)
                assert held == {"rows": [1, 2], "note": note}
                assert SECRET not in text(result)
            poisoned = await s.call_tool("structured", {"kind": "poisoned"})
            assert is_error(poisoned)
            assert not (poisoned.structured_content if NEW else poisoned.structuredContent)

    arun(main())


@pytest.mark.parametrize("wrap_first", [True, False])
def test_poisoned_tools_are_left_out_and_cannot_be_called(stage: Stage, wrap_first: bool) -> None:
    async def main() -> None:
        async with session(stage.guard(), wrap_first) as s:
            names = [t.name for t in (await s.list_tools()).tools]
            assert "poisonous" not in names
            assert "echo" in names
            assert is_error(await s.call_tool("poisonous", {"text": "x"}))

    arun(main())


def test_resources_and_prompts(stage: Stage) -> None:
    name = stage.agent()

    async def main() -> None:
        async with session(stage.guard(name)) as s:
            uri = (lambda u: u) if NEW else types.AnyUrl
            with pytest.raises(GuardBlocked):
                await s.read_resource(uri("doc://poisoned"))
            read = await s.read_resource(uri("doc://plain"))
            assert read.contents[0].text == "a page, and a key [REDACTED:secret]"
            assert len((await s.list_resources()).resources) == 2
            with pytest.raises(GuardBlocked):
                await s.get_prompt("greet", {"name": "poisoned"})
            assert (await s.get_prompt("greet", {"name": "Ada"})).messages[0].content.text == "Greet Ada."

    arun(main())
    assert "tool_result/resources/read/block" in stage.told(name)


def test_what_a_server_asks_is_judged_and_what_it_is_told(stage: Stage) -> None:
    asked: list[str] = []

    async def sampling(context: Any, params: Any) -> Any:
        asked.append("sampling")
        content = types.TextContent(type="text", text=f"it is {SECRET}" if "secret" in str(params) else "four")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def elicitation(context: Any, params: Any) -> Any:
        asked.append("elicitation")
        return types.ElicitResult(action="accept", content={"answer": "yes"})

    name = stage.agent()

    async def main() -> None:
        async with session(stage.guard(name), sampling_callback=sampling, elicitation_callback=elicitation) as s:
            assert "four" in text(await s.call_tool("samples", {"what": "two and two"}))
            assert asked == ["sampling"]
            poisoned = await s.call_tool("samples", {"what": INJECTION})
            assert "Blocked" in text(poisoned)
            assert asked == ["sampling"]
            leaked = await s.call_tool("samples", {"what": "the secret"})
            assert SECRET not in text(leaked)
            assert "Blocked" in text(leaked)
            assert "yes" in text(await s.call_tool("asks", {"what": "May I?"}))
            poisoned = await s.call_tool("asks", {"what": INJECTION})
            assert "Blocked" in text(poisoned)
            assert asked.count("elicitation") == 1

    arun(main())
    assert "tool_result/elicitation/create/block" in stage.told(name) or "tool_call/asks/block" in stage.told(name)


def test_parallel_calls_cancellation_and_a_kill(stage: Stage) -> None:
    name = stage.agent()

    async def main() -> None:
        async with session(stage.guard(name)) as s:
            calls = [s.call_tool("echo", {"text": str(i)}) for i in range(8)] + [s.call_tool("delete_everything", {})]
            results = await asyncio.gather(*calls)
            assert [text(r) for r in results[:8]] == [str(i) for i in range(8)]
            assert is_error(results[8])
            waiting = asyncio.ensure_future(s.call_tool("waits", {"why": "x"}))
            while "tool_call/waits/allow" not in await asyncio.to_thread(stage.told, name):
                pass
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert text(await s.call_tool("echo", {"text": "still here"})) == "still here"
            await asyncio.to_thread(stage.kill, name)
            assert is_error(await s.call_tool("echo", {"text": "x"}))

    arun(main())


def test_without_a_server_no_tool_is_called(stage: Stage) -> None:
    async def main() -> None:
        async with session(stage.guard(url="http://127.0.0.1:9", budget=0.25)) as s:
            result = await s.call_tool("echo", {"text": "x"})
            assert is_error(result)
            assert "could not be asked" in text(result)

    arun(main())


if NEW:  # mcp.Client came with 2.x

    def test_the_client_of_2x_and_its_rounds(stage: Stage) -> None:
        from mcp import Client
        from mcp_server import server

        async def main() -> None:
            async with Client(server) as client:
                guarded = stage.guard().wrap(client, server="crm")
                assert is_error(await guarded.call_tool("delete_everything", {}))
                assert "poisonous" not in json.dumps([t.name for t in (await guarded.list_tools()).tools])
                assert text(await guarded.call_tool("echo", {"text": "hello"})) == "hello"

        arun(main())
