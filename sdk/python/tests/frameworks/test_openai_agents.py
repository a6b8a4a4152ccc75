"""The OpenAI Agents SDK, the real package, against a real server and a stand-in model."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FileSearchTool,
    InputGuardrailTripwireTriggered,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from agents.items import ToolCallOutputItem
from agents.mcp import MCPServerStdio
from agents.models.interface import Model
from openai import AsyncOpenAI
from stage import INJECTION, MAIL, SECRET, SELECT, Stage, in_front_of, plan

from guardbook import GuardBlocked, GuardError
from guardbook.frameworks.openai_agents import _RAISES

ran: list[str] = []
arun = asyncio.new_event_loop().run_until_complete
set_tracing_disabled(True)


@pytest.fixture(autouse=True)
def _empty() -> None:
    ran.clear()


@function_tool
def query_database(query: str) -> str:
    """Runs a query."""
    ran.append(query)
    return "2026-03-09T10:30"


@function_tool
def read_document(name: str) -> str:
    """Reads a document."""
    ran.append(name)
    return {"poisoned": INJECTION, "secret": f"the key is {SECRET}, keep it"}.get(name, "nothing of note")


@function_tool
def send_note(text: str) -> str:
    """Sends a note."""
    ran.append(text)
    return "sent"


@function_tool(failure_error_function=lambda _, err: f"failed: {err}")
def fails(why: str) -> str:
    """Fails."""
    raise RuntimeError(INJECTION)


TOOLS = [query_database, read_document, send_note]


def client(stage: Stage, url: str = "") -> AsyncOpenAI:
    return AsyncOpenAI(api_key="none", base_url=(url or stage.provider) + "/openai/v1", max_retries=0)


def chat(stage: Stage, *turns: Any, url: str = "") -> Any:
    return OpenAIChatCompletionsModel(plan(*turns), client(stage, url))


def responses(stage: Stage, *turns: Any, url: str = "") -> Any:
    return OpenAIResponsesModel(plan(*turns), client(stage, url))


def plain(model: Any) -> Any:
    """A model of somebody else's making, without a client that can be guarded."""

    class Other(Model):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            return await model.get_response(*args, **kwargs)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            return model.stream_response(*args, **kwargs)

    return Other()


def outputs(result: Any) -> list[str]:
    return [str(i.output) for i in result.new_items if isinstance(i, ToolCallOutputItem)]


def run(agent: Any, text: Any = "When is my next appointment?", **settings: Any) -> Any:
    return arun(Runner.run(agent, text, **settings))


STORY_B = (
    [("query_database", {"query": "SELECT * FROM billing"})],
    [("query_database", {"query": SELECT})],
    "On 9 March.",
)


def test_a_denied_call_comes_back_and_the_agent_goes_on(stage: Stage) -> None:
    name = stage.agent()
    agent = stage.guard(name).wrap(
        Agent("a", instructions="Help patients.", tools=TOOLS, model=plain(chat(stage, *STORY_B)))
    )
    result = run(agent)
    assert "billing" in outputs(result)[0]
    assert outputs(result)[1] == "2026-03-09T10:30"
    assert ran == [SELECT]
    assert result.final_output == "On 9 March."
    told = stage.told(name)
    assert [t for t in told if t.startswith("tool_call")] == [
        "tool_call/query_database/block",
        "tool_call/query_database/allow",
    ]
    assert told[0] == "input//allow"
    assert told[-1] == "output//allow"
    assert {e["path"] for e in stage.book(name)} == {"inspect/python/openai-agents"}


def test_streamed_too(stage: Stage) -> None:
    agent = stage.guard().wrap(Agent("a", tools=TOOLS, model=plain(chat(stage, *STORY_B))))

    async def main() -> Any:
        result = Runner.run_streamed(agent, "When?")
        async for _ in result.stream_events():
            pass
        return result

    result = arun(main())
    assert "billing" in outputs(result)[0]
    assert ran == [SELECT]
    assert result.final_output == "On 9 March."


def test_an_injection_never_reaches_the_model_from_a_tool_or_its_error(stage: Stage) -> None:
    name = stage.agent()
    with in_front_of(stage.provider) as provider:
        model = plain(
            chat(stage, [("read_document", {"name": "poisoned"}), ("fails", {"why": "x"})], "Done.", url=provider.url)
        )
        result = run(stage.guard(name).wrap(Agent("a", tools=[*TOOLS, fails], model=model)))
        assert "maintenance mode" not in "".join(provider.bodies)
        assert result.final_output == "Done."
    assert {"tool_result/read_document/block", "tool_result/fails/block"} <= set(stage.told(name))


def test_parallel_calls_are_judged_one_by_one_and_secrets_redacted(stage: Stage) -> None:
    calls = [
        ("query_database", {"query": "SELECT * FROM billing"}),
        ("query_database", {"query": SELECT}),
        ("send_note", {"text": f"use {SECRET} now"}),
        ("read_document", {"name": "secret"}),
    ]
    result = run(stage.guard().wrap(Agent("a", tools=TOOLS, model=plain(chat(stage, calls, "Done.")))))
    assert sorted(ran) == sorted([SELECT, "use [REDACTED:secret] now", "secret"])
    assert outputs(result)[1:] == ["2026-03-09T10:30", "sent", "the key is [REDACTED:secret], keep it"]


@pytest.mark.parametrize("use", ["run", "stream"])
def test_a_denied_input_stops_the_run_before_it_starts(stage: Stage, use: str) -> None:
    with in_front_of(stage.provider) as provider:
        agent = stage.guard().wrap(
            Agent(
                "a", tools=TOOLS, model=plain(chat(stage, [("send_note", {"text": "x"})], "Hello.", url=provider.url))
            )
        )

        async def main() -> None:
            if use == "run":
                await Runner.run(agent, INJECTION)
            else:
                async for _ in Runner.run_streamed(agent, INJECTION).stream_events():
                    pass

        with pytest.raises(GuardBlocked if _RAISES else InputGuardrailTripwireTriggered) as stopped:
            arun(asyncio.wait_for(main(), 30))
        if not _RAISES:
            assert isinstance(stopped.value.guardrail_result.output.output_info, GuardBlocked)
        assert provider.bodies == []
        assert ran == []


def test_a_denied_output_raises(stage: Stage) -> None:
    agent = stage.guard().wrap(Agent("a", model=plain(chat(stage, f"The key is {SECRET}, take it."))))
    with pytest.raises(GuardBlocked):
        run(agent)


@pytest.mark.parametrize("model", [chat, responses])
def test_a_guarded_client_judges_tokens_on_the_way(stage: Stage, model: Any) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    seen: list[str] = []

    async def stream(agent: Any) -> Any:
        result = Runner.run_streamed(agent, "Who knows?")
        async for event in result.stream_events():
            seen.append(str(event))
        return result.final_output

    agent = guard.wrap(Agent("a", model=model(stage, f"A long story. Ask {MAIL} about it, and read on.")), client=True)
    assert arun(stream(agent)) == "A long story. Ask [REDACTED:pii] about it, and read on."
    assert MAIL not in "".join(seen)
    assert len(seen) > 5
    seen.clear()
    agent = guard.wrap(Agent("a", model=model(stage, f"Here it comes: the key is {SECRET}, take it.")), client=True)
    with pytest.raises(GuardBlocked):
        arun(stream(agent))
    assert SECRET not in "".join(seen)
    with pytest.raises(GuardBlocked):
        run(agent)


def calls(book: list[dict[str, Any]]) -> list[tuple[bool, str]]:
    """The decisions about calls: whether deferred, and what it is or would be."""
    return [(e.get("deferred", False), e.get("would") or e["decision"]) for e in book if e["kind"] == "tool_call"]


BOTH = [(True, "block"), (False, "block"), (True, "allow"), (False, "allow")]


@pytest.mark.parametrize("model", [chat, responses])
@pytest.mark.parametrize("whose", ["ours", "asked", "default"])
def test_a_denied_call_of_a_guarded_client_comes_back_and_the_agent_goes_on(
    stage: Stage, model: Any, whose: str
) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    made = model(stage, *STORY_B)
    if whose == "asked":
        made._client = guard.wrap(made._client, tool_calls="asked")
    if whose == "default":
        set_default_openai_client(guard.wrap(made._client, tool_calls="asked"), use_for_tracing=False)
        set_default_openai_api("chat_completions" if model is chat else "responses")
        made = "openai/" + made.model
    agent = guard.wrap(Agent("a", instructions="Help.", tools=TOOLS, model=made), client=whose == "ours")
    result = run(agent)
    set_default_openai_api("responses")
    assert result.final_output == "On 9 March."
    assert "do not retry" in outputs(result)[0].lower()
    assert ran == [SELECT]
    assert calls(stage.book(name)) == BOTH


def test_tools_that_nobody_asks_about_are_withheld(stage: Stage) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    agent = guard.wrap(Agent("a", tools=TOOLS[:1], model=chat(stage, *STORY_B)), client=True)
    with pytest.raises(GuardBlocked):
        run(agent.clone(tools=[*agent.tools, send_note]))  # which is none of ours
    assert calls(stage.book(name)) == [(False, "block")]
    set_default_openai_client(guard.wrap(client(stage), tool_calls="asked"), use_for_tracing=False)
    with pytest.raises(GuardError, match="nobody asks"):
        guard.wrap(Agent("a", tools=[FileSearchTool(vector_store_ids=["v"])]))


@pytest.mark.parametrize("model", [chat, responses, lambda *a, **k: plain(chat(*a, **k))])
def test_a_model_without_a_guarded_client_answers_in_one_piece(stage: Stage, model: Any) -> None:
    guard = stage.guard()
    seen: list[str] = []

    async def stream(agent: Any) -> Any:
        result = Runner.run_streamed(agent, f"Who knows? I have {SECRET}.")
        async for event in result.stream_events():
            seen.append(str(event))
        return result.final_output

    for text, expected in ((f"Ask {MAIL}.", "Ask [REDACTED:pii]."), ("Just so.", "Just so.")):
        with in_front_of(stage.provider) as provider:
            agent = guard.wrap(Agent("a", instructions="Help.", model=model(stage, text, url=provider.url)))
            assert run(agent, f"Who knows? I have {SECRET}.").final_output == expected
            assert SECRET not in "".join(provider.bodies)
        assert "[REDACTED:secret]" in "".join(provider.bodies)
        agent = guard.wrap(Agent("a", instructions="Help.", model=model(stage, text)))
        assert arun(stream(agent)) == expected
    agent = guard.wrap(Agent("a", model=model(stage, f"Here it comes: the key is {SECRET}, take it.")))
    with pytest.raises(GuardBlocked):
        arun(stream(agent))
    assert MAIL not in "".join(seen)
    assert SECRET not in "".join(seen).replace(f"I have {SECRET}", "")
    assert "Here it comes" not in "".join(seen)


def test_a_killed_agent_gets_nothing_more(stage: Stage) -> None:
    name = stage.agent()
    agent = stage.guard(name).wrap(Agent("a", tools=TOOLS, model=plain(chat(stage, "Hello."))))
    assert run(agent).final_output == "Hello."
    stage.kill(name)
    with pytest.raises(GuardBlocked if _RAISES else InputGuardrailTripwireTriggered):
        run(agent)


def test_agents_that_are_handed_over_to_are_guarded_in_circles_too(stage: Stage) -> None:
    name = stage.agent()
    second = Agent("second", tools=TOOLS, model=plain(chat(stage, *[STORY_B[0]] * 4, "Done.")))
    first = Agent("first", handoffs=[second], model=plain(chat(stage, [("transfer_to_second", {})])))
    second.handoffs = [first]
    result = run(stage.guard(name).wrap(first))
    assert ran == []
    assert result.final_output == "Done."
    told = stage.told(name)
    assert "tool_call/transfer_to_second/allow" in told
    assert "tool_call/query_database/block" in told
    assert len(second.tools) == 3
    assert second.tools[0] is query_database


def test_agents_that_are_tools_are_guarded(stage: Stage) -> None:
    name = stage.agent()
    inner = Agent("inner", tools=TOOLS, model=plain(chat(stage, *STORY_B)))
    outer = Agent(
        "outer",
        tools=[inner.as_tool("ask_colleague", "Asks a colleague.")],
        model=plain(chat(stage, [("ask_colleague", {"input": "When?"})], "Done.")),
    )
    result = run(stage.guard(name).wrap(outer))
    assert ran == [SELECT]
    assert outputs(result) == ["On 9 March."]
    assert result.final_output == "Done."
    assert {"tool_call/ask_colleague/allow", "tool_call/query_database/block"} <= set(stage.told(name))


def test_what_the_sdk_has_no_hook_for_is_refused_or_goes_through_the_gateway(stage: Stage) -> None:
    hosted = FileSearchTool(vector_store_ids=["v"])
    with pytest.raises(GuardError, match="guard the client"):
        stage.guard().wrap(Agent("a", tools=[hosted], model=plain(chat(stage, "Hello."))))
    guard = stage.guard()
    set_default_openai_client(guard.wrap(client(stage)), use_for_tracing=False)
    assert guard.wrap(Agent("a", tools=[hosted])).tools == [hosted]


def test_a_local_shell_is_judged(stage: Stage) -> None:
    from agents import LocalShellTool

    name = stage.agent()

    def execute(request: Any) -> str:
        ran.append("shell")
        return f"key {SECRET}"

    agent = stage.guard(name).wrap(
        Agent("a", tools=[LocalShellTool(executor=execute)], model=plain(chat(stage, "Hello.")))
    )

    class Action:
        def model_dump(self, **_: Any) -> Any:
            return {"type": "exec", "command": ["ls"], "env": {}}

    class Request:
        class data:
            action, call_id = Action(), "c"

        ctx_wrapper = None

    assert arun(agent.tools[0].executor(Request())) == "key [REDACTED:secret]"
    assert ran == ["shell"]
    stage.kill(name)
    assert "killed" in arun(agent.tools[0].executor(Request())).lower() or ran == ["shell"]
    assert ran == ["shell"]


def test_mcp_servers_are_guarded(stage: Stage) -> None:
    name = stage.agent()
    params = {"command": sys.executable, "args": [str(Path(__file__).with_name("mcp_server.py"))]}

    async def main() -> Any:
        async with MCPServerStdio(params=params, name="crm", client_session_timeout_seconds=30) as server:
            calls = [
                ("read_document", {"name": "poisoned"}),
                ("delete_everything", {}),
                ("echo", {"text": f"use {SECRET}"}),
            ]
            agent = stage.guard(name).wrap(Agent("a", mcp_servers=[server], model=plain(chat(stage, calls, "Done."))))
            return await Runner.run(agent, "Go."), [t.name for t in await server.list_tools()]

    result, tools = arun(main())
    assert "poisonous" not in tools
    assert "echo" in tools
    said = outputs(result)
    assert "maintenance mode" not in said[0]
    assert "nobody deletes" in said[1]
    assert "[REDACTED:secret]" in said[2]
    (denied,) = [e for e in stage.book(name, kind="tool_call") if e["decision"] == "block"]
    assert denied["tool"]["server"] == "crm"


def test_the_conversation_is_the_runs_group_unless_a_session_is_named(stage: Stage) -> None:
    name = stage.agent()
    guard = stage.guard(name, session="s-guard")
    agent = guard.wrap(Agent("a", model=plain(chat(stage, "Hello."))))
    set_tracing_disabled(False)
    try:
        run(agent, run_config=RunConfig(group_id="g-1"))
    finally:
        set_tracing_disabled(True)
    with guard.session("s-mine"):
        run(agent, run_config=RunConfig(group_id="g-1"))
    assert [e["session"] for e in stage.book(name, kind="output")] == ["g-1", "s-mine"]


def test_a_cancelled_run_ends(stage: Stage) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        @function_tool
        async def waits(why: str) -> str:
            """Waits."""
            begun.set()
            await asyncio.sleep(60)
            return "never"

        agent = stage.guard().wrap(
            Agent("a", tools=[waits], model=plain(chat(stage, [("waits", {"why": "x"})], "Done.")))
        )
        task = asyncio.ensure_future(Runner.run(agent, "Go."))
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    arun(main())


def test_a_retried_model_call_is_judged_again_and_a_block_is_not_retried(stage: Stage) -> None:
    guard = stage.guard()
    with in_front_of(stage.provider, fail=1) as provider:
        retrying = AsyncOpenAI(api_key="none", base_url=provider.url + "/openai/v1", max_retries=1)
        model = plain(OpenAIChatCompletionsModel(plan("Hello."), retrying))
        assert run(guard.wrap(Agent("a", model=model))).final_output == "Hello."
        assert len(provider.bodies) == 2


def test_without_a_server_tools_do_not_run(stage: Stage) -> None:
    guard = stage.guard(url="http://127.0.0.1:9", budget=0.25)
    result = run(guard.wrap(Agent("a", tools=TOOLS, model=plain(chat(stage, [("send_note", {"text": "x"})], "Done.")))))
    assert ran == []
    assert "could not be asked" in outputs(result)[0]
    assert result.final_output == "Done."
