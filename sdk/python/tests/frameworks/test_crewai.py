"""CrewAI, the real package, against a real server and a stand-in model."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",
}

import pytest
from crewai import Agent, Crew, Task
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tools import tool
from stage import INJECTION, MAIL, SECRET, SELECT, Stage, in_front_of, plan

from guardbook import GuardBlocked
from guardbook.frameworks.crewai import _HookAborted

NEW = _HookAborted is not None
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # CrewAI's own
ran: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    ran.clear()


@pytest.fixture
def guarded(stage: Stage) -> Iterator[Any]:
    """Registers hooks for a new agent, and takes them away again."""
    made: list[Any] = []

    def begin(**settings: Any) -> tuple[str, Any]:
        name = stage.agent()
        guard = stage.guard(name, **settings)
        made.append(guard.crewai())
        return name, guard

    yield begin
    for hooks in made:
        hooks.remove()


@tool("query_database")
def query_database(query: str) -> str:
    """Runs a query."""
    ran.append(query)
    return "2026-03-09T10:30"


@tool("read_document")
def read_document(name: str) -> str:
    """Reads a document."""
    ran.append(name)
    if name == "fails":
        raise RuntimeError("the disk is full")
    return {"poisoned": INJECTION, "secret": f"the key is {SECRET}, keep it"}.get(name, "nothing of note")


@tool("send_note")
def send_note(text: str) -> str:
    """Sends a note."""
    ran.append(text)
    return "sent"


TOOLS = [query_database, read_document, send_note]


def llm(stage: Stage, *turns: Any, url: str = "", **settings: Any) -> Any:
    """A model that plays turns: calls natively, or in words, as the version asks."""
    told = []
    for turn in turns:
        if isinstance(turn, list) and not NEW:
            ((name, arguments),) = turn
            turn = f"Thought: I need a tool.\nAction: {name}\nAction Input: {json.dumps(arguments)}"
        elif isinstance(turn, str) and not NEW:
            turn = f"Thought: I now can give a great answer\nFinal Answer: {turn}"
        told.append(turn)
    return OpenAICompletion(
        model=plan(*told), api_key="none", base_url=(url or stage.provider) + "/openai/v1", max_retries=0, **settings
    )


def run(model: Any, tools: Any = TOOLS, task: str = "Find the next appointment.") -> str:
    agent = Agent(
        role="clerk",
        goal="help patients",
        backstory="A clerk.",
        llm=model,
        tools=list(tools),
        max_iter=6,
        max_retry_limit=0,
    )
    crew = Crew(agents=[agent], tasks=[Task(description=task, expected_output="a date", agent=agent)], verbose=False)
    return str(crew.kickoff())


def test_a_denied_call_comes_back_with_its_reason_and_the_agent_goes_on(stage: Stage, guarded: Any) -> None:
    name, _ = guarded()
    with in_front_of(stage.provider) as provider:
        model = llm(
            stage,
            [("query_database", {"query": "SELECT * FROM billing"})],
            [("query_database", {"query": SELECT})],
            "On 9 March.",
            url=provider.url,
        )
        assert run(model) == "On 9 March."
        assert ran == [SELECT]
        assert "do not retry" in provider.bodies[1]
    told = stage.told(name)
    assert [t for t in told if t.startswith("tool_call")] == [
        "tool_call/query_database/block",
        "tool_call/query_database/allow",
    ]
    assert "output//allow" in told
    assert {e["path"] for e in stage.book(name)} == {"inspect/python/crewai"}


def test_results_are_judged_and_secrets_redacted(stage: Stage, guarded: Any) -> None:
    name, _ = guarded()
    with in_front_of(stage.provider) as provider:
        model = llm(
            stage,
            [("read_document", {"name": "poisoned"})],
            [("read_document", {"name": "secret"})],
            [("send_note", {"text": f"use {SECRET} now"})],
            "Done.",
            url=provider.url,
        )
        assert run(model) == "Done."
        sent = "".join(json.loads(b)["messages"][-1]["content"] or "" for b in provider.bodies)
        assert "maintenance mode" not in sent
        assert "the key is [REDACTED:secret], keep it" in sent
    assert ran == ["poisoned", "secret", "use [REDACTED:secret] now"]
    assert "tool_result/read_document/block" in stage.told(name)


def test_denied_texts_end_the_task(stage: Stage, guarded: Any) -> None:
    guarded()
    with in_front_of(stage.provider) as provider:
        with pytest.raises(GuardBlocked if NEW else ValueError):
            run(llm(stage, "Hello.", url=provider.url), task=INJECTION)
        assert provider.bodies == []
    leak = llm(stage, f"Here it comes: {SECRET}, take it.")
    if NEW:
        with pytest.raises(GuardBlocked) as blocked:
            run(leak, [])
        assert blocked.value.rule == "support/findings/secret"
    else:
        said = run(leak, [])
        assert SECRET not in said
        assert "support" in said


def test_answers_are_redacted(stage: Stage, guarded: Any) -> None:
    guarded()
    assert run(llm(stage, f"Ask {MAIL} about it."), []) == "Ask [REDACTED:pii] about it."


def test_a_killed_agent_gets_nothing_more(stage: Stage, guarded: Any) -> None:
    name, _ = guarded()
    stage.kill(name)
    with in_front_of(stage.provider) as provider:
        with pytest.raises(GuardBlocked if NEW else ValueError):
            run(llm(stage, "Hello.", url=provider.url))
        assert provider.bodies == []


def test_an_error_of_ours_or_of_others_is_no_consent(stage: Stage, guarded: Any) -> None:
    from crewai.hooks import tool_hooks

    _, guard = guarded()

    def breaks(context: Any) -> None:
        raise RuntimeError("somebody else's hook")

    tool_hooks._before_tool_call_hooks.append(breaks)
    try:
        run(llm(stage, [("query_database", {"query": "SELECT * FROM billing"})], "Done."))
        assert ran == []
        guard.decide_batch = breaks  # our own code fails
        with pytest.raises(GuardBlocked if NEW else ValueError):
            run(llm(stage, [("send_note", {"text": "x"})], "Done."))
        assert ran == []
    finally:
        tool_hooks._before_tool_call_hooks.remove(breaks)


def test_without_a_server_no_tool_runs(stage: Stage, guarded: Any) -> None:
    guarded(url="http://127.0.0.1:9", budget=0.25)
    assert run(llm(stage, [("send_note", {"text": "x"})], "Done.")) == "Done."
    assert ran == []


def test_an_error_inside_a_tool_is_the_tools_own(stage: Stage, guarded: Any) -> None:
    name, _ = guarded()
    assert run(llm(stage, [("read_document", {"name": "fails"})], "Sorry.")) == "Sorry."
    assert "tool_result/read_document/allow" in stage.told(name)


def test_what_is_cached_is_judged_again(stage: Stage, guarded: Any) -> None:
    name, _ = guarded()
    call = [("read_document", {"name": "plain"})]
    assert run(llm(stage, call, [("send_note", {"text": "between"})], call, "Done.")) == "Done."
    assert [t for t in stage.told(name) if t.startswith("tool_call/read")] == ["tool_call/read_document/allow"] * 2


def test_a_streaming_model_streams_through_the_gateway_or_not_at_all(stage: Stage, guarded: Any) -> None:
    from crewai.events import crewai_event_bus
    from crewai.events.types.llm_events import LLMStreamChunkEvent

    _, guard = guarded()
    seen: list[str] = []

    @crewai_event_bus.on(LLMStreamChunkEvent)
    def heard(source: Any, event: Any) -> None:
        seen.append(event.chunk)

    with pytest.raises(GuardBlocked) if NEW else contextlib.nullcontext():
        run(llm(stage, f"Here it comes: {SECRET}, take it.", stream=True), [])
    assert SECRET not in "".join(seen)
    said = run(guard.wrap(llm(stage, f"A long story. Ask {MAIL} about it, and read on.", stream=True)), [])
    assert said == "A long story. Ask [REDACTED:pii] about it, and read on."
    with pytest.raises(Exception) as stopped:  # noqa: PT011 - CrewAI makes it one of its own, by version
        run(guard.wrap(llm(stage, f"Here it comes: {SECRET}, take it.", stream=True)), [])
    assert "support" in str(stopped.value)
    assert SECRET not in "".join(seen)
    assert MAIL not in "".join(seen)


def test_a_denied_call_of_a_guarded_model_comes_back_and_the_agent_goes_on(stage: Stage, guarded: Any) -> None:
    name, guard = guarded()
    model = llm(
        stage,
        [("query_database", {"query": "SELECT * FROM billing"})],
        [("query_database", {"query": SELECT})],
        "On 9 March.",
    )
    assert run(guard.wrap(model, tool_calls="asked")) == "On 9 March."
    assert ran == [SELECT]
    calls = [e for e in stage.book(name) if e["kind"] == "tool_call"]
    assert [e["decision"] for e in calls if not e.get("deferred")] == ["block", "allow"]
    if NEW:  # before, calls are words
        assert [e.get("would") or e["decision"] for e in calls if e.get("deferred")] == ["block", "allow"]
    with pytest.raises(ValueError, match="tool_calls must be"):
        guard.wrap(model, tool_calls="yes")


def test_the_session_is_the_applications(stage: Stage, guarded: Any) -> None:
    name, guard = guarded()
    with guard.session("s-crew", user="u-3"):
        run(llm(stage, [("send_note", {"text": "x"})], "Done."))
    assert {(e["session"], e["user"]) for e in stage.book(name)} == {("s-crew", "u-3")}


def test_hooks_are_registered_once_and_can_be_removed(stage: Stage, guarded: Any) -> None:
    from crewai.hooks import get_before_tool_call_hooks

    _, guard = guarded()
    before = len(get_before_tool_call_hooks())
    hooks = guard.crewai()
    assert len(get_before_tool_call_hooks()) == before
    hooks.remove()
    assert len(get_before_tool_call_hooks()) == before - 1


if NEW:

    def test_parallel_calls_are_judged_one_by_one(stage: Stage, guarded: Any) -> None:
        guarded()
        calls = [
            ("query_database", {"query": "SELECT * FROM billing"}),
            ("query_database", {"query": SELECT}),
            ("send_note", {"text": "hi"}),
        ]
        with in_front_of(stage.provider) as provider:
            assert run(llm(stage, calls, "Done.", url=provider.url)) == "Done."
            told = [m["content"] for m in json.loads(provider.bodies[1])["messages"] if m["role"] == "tool"]
        assert sorted(ran) == sorted([SELECT, "hi"])
        assert "billing" in told[0]
        assert "do not retry" in told[0]
