"""LangChain agents on the real package, against a real server and a stand-in model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from pydantic import BaseModel
from stage import INJECTION, MAIL, SECRET, SELECT, Stage, in_front_of, plan

from guardbook import GuardBlocked, GuardError, GuardUnavailable

ran: list[str] = []
#: One loop for all tests: LangChain keeps HTTP clients, which belong to a loop.
arun = asyncio.new_event_loop().run_until_complete
ASK = {"messages": [{"role": "user", "content": "When is my next appointment?"}]}


@pytest.fixture(autouse=True)
def _empty() -> None:
    ran.clear()


@tool
def read_document(name: str) -> str:
    """Reads a document."""
    ran.append(f"read_document {name}")
    return {"poisoned": INJECTION, "secret": f"the key is {SECRET}, keep it"}.get(name, "nothing of note")


@tool
def query_database(query: str) -> str:
    """Runs a query."""
    ran.append(query)
    return "2026-03-09T10:30"


@tool
def send_note(text: str) -> str:
    """Sends a note."""
    ran.append(text)
    return "sent"


@tool
def delete_everything(why: str) -> str:
    """Deletes everything."""
    ran.append("deleted")
    return "done"


TOOLS = [read_document, query_database, send_note, delete_everything]


def openai(stage: Stage, *turns: Any, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=plan(*turns), api_key="none", base_url=stage.provider + "/openai/v1", max_retries=0, **settings
    )


def anthropic(stage: Stage, *turns: Any) -> ChatAnthropic:
    return ChatAnthropic(
        model=plan(*turns), api_key="none", base_url=stage.provider + "/anthropic", max_tokens=100, max_retries=0
    )


def results(state: Any) -> list[ToolMessage]:
    return [m for m in state["messages"] if isinstance(m, ToolMessage)]


MODELS = [openai, anthropic]
STORY_B = (
    [("query_database", {"query": "SELECT * FROM billing"})],
    [("query_database", {"query": SELECT})],
    "On 9 March.",
)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("use", ["invoke", "ainvoke"])
def test_a_denied_call_comes_back_as_an_error_and_the_agent_goes_on(stage: Stage, model: Any, use: str) -> None:
    name = stage.agent()
    agent = create_agent(
        model(stage, *STORY_B), TOOLS, system_prompt="Help patients.", middleware=[stage.guard(name).langchain()]
    )
    config = {"configurable": {"thread_id": "t-17", "user_id": "u-3"}}
    state = agent.invoke(ASK, config) if use == "invoke" else arun(agent.ainvoke(ASK, config))
    denied, allowed = results(state)
    assert denied.status == "error"
    assert "billing" in denied.content
    assert "do not retry" in denied.content.lower()
    assert allowed.status == "success"
    assert ran == [SELECT]
    assert state["messages"][-1].text == "On 9 March."
    book = stage.book(name)
    assert [e["decision"] for e in book if e["kind"] == "tool_call"] == ["block", "allow"]
    assert {e["session"] for e in book} == {"t-17"}
    assert {e["user"] for e in book} == {"u-3"}
    assert {e["path"] for e in book} == {"inspect/python/langchain"}
    # Every text was judged once, though the model saw it with every turn.
    kinds = [f"{e['kind']}/{e.get('role', '')}" for e in book]
    assert kinds.count("input/system") == 1
    assert kinds.count("input/user") == 1
    assert kinds.count("tool_definition/") == 4
    assert kinds.count("output/") == 1
    numbers = sorted(e["client_seq"] for e in book)
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("use", ["invoke", "ainvoke"])
def test_an_injection_in_a_result_never_reaches_the_model(stage: Stage, use: str) -> None:
    name = stage.agent()
    with in_front_of(stage.provider) as provider:
        model = ChatOpenAI(
            model=plan([("read_document", {"name": "poisoned"})], "All done."),
            api_key="none",
            base_url=provider.url + "/openai/v1",
            max_retries=0,
        )
        agent = create_agent(model, TOOLS, middleware=[stage.guard(name).langchain()])
        state = agent.invoke(ASK) if use == "invoke" else arun(agent.ainvoke(ASK))
        assert "maintenance mode" not in "".join(provider.bodies)
    (result,) = results(state)
    assert result.status == "error"
    assert ran == ["read_document poisoned"]
    assert state["messages"][-1].text == "All done."
    assert "tool_result/read_document/block" in stage.told(name)


def test_a_killed_agent_gets_nothing_more(stage: Stage) -> None:
    name = stage.agent()
    agent = create_agent(openai(stage, "Hello."), TOOLS, middleware=[stage.guard(name).langchain()])
    assert agent.invoke(ASK)["messages"][-1].text == "Hello."
    stage.kill(name)
    with pytest.raises(GuardBlocked):  # the same texts as before
        agent.invoke(ASK)
    stage.lift(name)
    assert agent.invoke(ASK)["messages"][-1].text == "Hello."


def test_a_kill_between_answer_and_call_stops_the_call(stage: Stage) -> None:
    name = stage.agent()

    class KillsAfterTheModel(AgentMiddleware):
        def after_model(self, state: Any, runtime: Any) -> None:
            if state["messages"][-1].tool_calls:
                stage.kill(name)

    agent = create_agent(
        openai(stage, [("send_note", {"text": "x"})], "Done."),
        TOOLS,
        middleware=[KillsAfterTheModel(), stage.guard(name).langchain(on_block="answer")],
    )
    state = agent.invoke(ASK)
    assert ran == []
    assert results(state)[0].status == "error"
    assert state["messages"][-1].text != "Done."


def test_denied_input_and_output_raise_or_answer(stage: Stage) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    agent = create_agent(openai(stage, f"The key is {SECRET}, take it."), TOOLS, middleware=[guard.langchain()])
    with pytest.raises(GuardBlocked) as blocked:
        agent.invoke(ASK)
    assert blocked.value.rule == "support/findings/secret"
    assert blocked.value.entry
    assert SECRET not in str(blocked.value)
    with pytest.raises(GuardBlocked):
        arun(agent.ainvoke({"messages": [HumanMessage(INJECTION)]}))
    agent = create_agent(
        openai(stage, f"The key is {SECRET}, take it."), TOOLS, middleware=[guard.langchain(on_block="answer")]
    )
    for ask in (ASK, {"messages": [HumanMessage(INJECTION)]}):
        last = agent.invoke(ask)["messages"][-1]
        assert isinstance(last, AIMessage)
        assert SECRET not in last.text
        assert "support" in last.text


@pytest.mark.parametrize("model", MODELS)
def test_no_unjudged_token_of_a_blocked_answer_comes_out(stage: Stage, model: Any) -> None:
    name = stage.agent()
    agent = create_agent(
        model(stage, f"Here it comes: the key is {SECRET}, take it."), TOOLS, middleware=[stage.guard(name).langchain()]
    )
    seen: list[str] = []

    def stream() -> None:
        for message, _ in agent.stream(ASK, stream_mode="messages"):
            if not isinstance(message, HumanMessage):
                seen.append(str(message))

    async def astream() -> None:
        async for message, _ in agent.astream(ASK, stream_mode="messages"):
            if not isinstance(message, HumanMessage):
                seen.append(str(message))

    async def events() -> None:
        async for event in agent.astream_events(ASK, version="v2"):
            seen.append(str(event))

    for way in (stream, lambda: arun(astream()), lambda: arun(events())):
        with pytest.raises(GuardBlocked):
            way()
    assert SECRET not in "".join(seen)
    assert "Here it comes" not in "".join(seen)


@pytest.mark.parametrize("model", MODELS)
def test_a_judged_answer_is_streamed_in_one_piece(stage: Stage, model: Any) -> None:
    name = stage.agent()
    agent = create_agent(
        model(stage, [("send_note", {"text": "hello"})], f"Ask {MAIL} about it."),
        TOOLS,
        middleware=[stage.guard(name).langchain()],
    )
    pieces = [m for m, _ in agent.stream(ASK, stream_mode="messages") if isinstance(m, AIMessage)]
    texts = [p.text for p in pieces if p.text]
    assert texts == ["Ask [REDACTED:pii] about it."]
    assert ran == ["hello"]


@pytest.mark.parametrize("model", MODELS)
def test_a_guarded_client_streams_tokens_and_is_redacted(stage: Stage, model: Any) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    chat = guard.wrap(
        model(
            stage,
            [("query_database", {"query": SELECT})],
            f"A long story. Ask {MAIL} about it, and read on in the book.",
        )
    )
    agent = create_agent(chat, TOOLS, middleware=[guard.langchain()])
    config = {"configurable": {"thread_id": "t-http"}}
    pieces = [m.text for m, _ in agent.stream(ASK, config, stream_mode="messages") if isinstance(m, AIMessage)]
    said = "".join(pieces)
    assert "Ask [REDACTED:pii] about it" in said
    assert MAIL not in said
    assert len([p for p in pieces if p]) > 3
    assert ran == [SELECT]
    book = stage.book(name)
    assert {e["session"] for e in book} == {"t-http"}
    assert len([e for e in book if e["kind"] == "tool_call" and e["path"].startswith("inspect/")]) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("use", ["stream", "invoke", "ainvoke"])
def test_a_block_of_a_guarded_client_raises(stage: Stage, model: Any, use: str) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    agent = create_agent(guard.wrap(model(stage, f"The key is {SECRET}, take it.")), [], middleware=[guard.langchain()])
    seen: list[str] = []
    with pytest.raises(GuardBlocked):
        if use == "stream":
            for message, _ in agent.stream(ASK, stream_mode="messages"):
                seen.append(str(message))
        elif use == "invoke":
            agent.invoke(ASK)
        else:
            arun(agent.ainvoke(ASK))
    assert SECRET not in "".join(seen)


def calls(book: list[dict[str, Any]]) -> list[tuple[bool, bool, str]]:
    """The decisions about calls: whether the gateway's, whether deferred, and what it is or would be."""
    found = [e for e in book if e["kind"] == "tool_call"]
    return [
        (not e["path"].startswith("inspect/"), e.get("deferred", False), e.get("would") or e["decision"]) for e in found
    ]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("use", ["stream", "invoke", "ainvoke"])
@pytest.mark.parametrize("told", [{}, {"tool_calls": "asked"}])
def test_a_denied_call_of_a_guarded_model_comes_back_as_an_error(
    stage: Stage, model: Any, use: str, told: dict[str, str]
) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    agent = create_agent(guard.wrap(model(stage, *STORY_B), **told), TOOLS, middleware=[guard.langchain()])
    if use == "stream":
        *_, state = agent.stream(ASK, stream_mode="values")
    else:
        state = agent.invoke(ASK) if use == "invoke" else arun(agent.ainvoke(ASK))
    denied, allowed = results(state)
    assert denied.status == "error"
    assert "do not retry" in denied.content.lower()
    assert (allowed.status, ran) == ("success", [SELECT])
    assert state["messages"][-1].text == "On 9 March."
    assert calls(stage.book(name)) == [
        (True, True, "block"),
        (False, False, "block"),
        (True, True, "allow"),
        (False, False, "allow"),
    ]


def test_a_denied_call_that_nobody_asks_about_is_withheld(stage: Stage) -> None:
    class Note(BaseModel):
        """The answer."""

        text: str

    name = stage.agent()
    guard = stage.guard(name)
    # The form of the answer is a call that no tool node runs.
    said = [("Note", {"text": f"the key is {SECRET}, keep it"})]
    agent = create_agent(
        guard.wrap(openai(stage, said), tool_calls="asked"),
        TOOLS,
        middleware=[guard.langchain()],
        response_format=ToolStrategy(Note),
    )
    with pytest.raises(GuardBlocked):
        agent.invoke(ASK)
    with pytest.raises(GuardBlocked):  # and here is no agent at all
        guard.wrap(openai(stage, *STORY_B)).bind_tools(TOOLS).invoke("When?")
    assert not any(deferred for _, deferred, _ in calls(stage.book(name)))
    call = guard.wrap(openai(stage, *STORY_B), tool_calls="asked").bind_tools(TOOLS).invoke("When?").tool_calls[0]
    assert call["args"] == {"query": "SELECT * FROM billing"}
    assert calls(stage.book(name))[-1] == (True, True, "block")


def test_tool_calls_are_asked_or_not_told_of(stage: Stage) -> None:
    guard = stage.guard()
    with pytest.raises(ValueError, match=r"tool_calls must be .asked., or left out, not 'yes'"):
        guard.wrap(openai(stage, "Hello."), tool_calls="yes")
    with pytest.raises(GuardError, match="leave tool_calls out"):
        guard.wrap(GenericFakeChatModel(messages=iter(["Hello."])), tool_calls="asked")


def test_a_wrapped_model_is_guarded_in_a_chain(stage: Stage) -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    name = stage.agent()
    guard = stage.guard(name)
    for answer, expected in ((f"Ask {MAIL}.", "Ask [REDACTED:pii]."), (f"The key is {SECRET}, take it.", None)):
        model = guard.wrap(GenericFakeChatModel(messages=iter([AIMessage(answer)] * 4)))
        assert isinstance(model, GenericFakeChatModel)
        for call in (
            model.invoke,
            lambda x, m=model: arun(m.ainvoke(x)),
            lambda x, m=model: "".join(c.text for c in m.stream(x)),
        ):
            if expected is None:
                with pytest.raises(GuardBlocked):
                    call("Who knows?")
            else:
                got = call("Who knows?")
                assert getattr(got, "text", got) == expected
    with pytest.raises(GuardBlocked):
        model.invoke([SystemMessage("Help."), HumanMessage(INJECTION)])
    called = guard.wrap(
        GenericFakeChatModel(
            messages=iter([AIMessage("", tool_calls=[{"name": "delete_everything", "args": {}, "id": "1"}])])
        )
    )
    with pytest.raises(GuardBlocked):
        called.invoke("Clean up.")


@pytest.mark.parametrize("use", ["invoke", "ainvoke"])
def test_parallel_calls_are_judged_one_by_one(stage: Stage, use: str) -> None:
    name = stage.agent()
    calls = [
        ("query_database", {"query": "SELECT * FROM billing"}),
        ("query_database", {"query": SELECT}),
        ("read_document", {"name": "poisoned"}),
        ("delete_everything", {"why": "x"}),
        ("read_document", {"name": "plain"}),
    ]
    agent = create_agent(openai(stage, calls, "Done."), TOOLS, middleware=[stage.guard(name).langchain()])
    state = agent.invoke(ASK) if use == "invoke" else arun(agent.ainvoke(ASK))
    assert [r.status for r in results(state)] == ["error", "success", "error", "error", "success"]
    assert sorted(ran) == sorted([SELECT, "read_document poisoned", "read_document plain"])


def test_secrets_are_redacted_in_arguments_and_results(stage: Stage) -> None:
    name = stage.agent()
    agent = create_agent(
        openai(stage, [("send_note", {"text": f"use {SECRET} now"})], [("read_document", {"name": "secret"})], "Done."),
        TOOLS,
        middleware=[stage.guard(name).langchain()],
    )
    state = agent.invoke(ASK)
    assert ran[0] == "use [REDACTED:secret] now"
    assert results(state)[1].content == "the key is [REDACTED:secret], keep it"


@pytest.mark.parametrize("use", ["invoke", "ainvoke"])
def test_artifacts_and_direct_results_are_judged(stage: Stage, use: str) -> None:
    @tool(response_format="content_and_artifact")
    def with_artifact(kind: str) -> tuple[str, Any]:
        """Gives an artifact."""
        return "fine", {"poisoned": {"page": INJECTION}, "secret": f"key {SECRET}"}.get(kind, {"rows": [1]})

    @tool(return_direct=True)
    def direct(kind: str) -> str:
        """Is the answer."""
        return INJECTION

    def run(name: str, arguments: Any) -> Any:
        guard = stage.guard(stage.agent())
        agent = create_agent(
            openai(stage, [(name, arguments)], "Done."), [with_artifact, direct], middleware=[guard.langchain()]
        )
        state = agent.invoke(ASK) if use == "invoke" else arun(agent.ainvoke(ASK))
        return results(state)[0]

    poisoned = run("with_artifact", {"kind": "poisoned"})
    assert poisoned.status == "error"
    assert poisoned.artifact is None
    assert run("with_artifact", {"kind": "secret"}).artifact == "key [REDACTED:secret]"
    assert run("with_artifact", {"kind": "plain"}).artifact == {"rows": [1]}
    assert run("direct", {"kind": "x"}).status == "error"


def test_messages_of_commands_are_judged(stage: Stage) -> None:
    @tool
    def as_command(kind: str, runtime: ToolRuntime) -> Any:
        """Gives a command."""
        text = INJECTION if kind == "poisoned" else f"key {SECRET}"
        return Command(update={"messages": [ToolMessage(text, tool_call_id=runtime.tool_call_id)]})

    for kind, expected in (("poisoned", None), ("secret", "key [REDACTED:secret]")):
        guard = stage.guard(stage.agent())
        agent = create_agent(
            openai(stage, [("as_command", {"kind": kind})], "Done."), [as_command], middleware=[guard.langchain()]
        )
        (result,) = results(agent.invoke(ASK))
        assert result.content == expected if expected else result.status == "error"


def test_an_error_inside_a_tool_is_the_tools_own(stage: Stage) -> None:
    @tool
    def fails(why: str) -> str:
        """Fails."""
        raise RuntimeError("the disk is full")

    guard = stage.guard(stage.agent())
    model = openai(stage, [("fails", {"why": "x"})], "Done.")
    with pytest.raises(RuntimeError, match="the disk is full"):
        create_agent(model, [fails], middleware=[guard.langchain()]).invoke(ASK)

    # LangGraph can turn errors into results: those are judged before the model reads them.
    @tool
    def fails_with_orders(why: str) -> str:
        """Fails."""
        raise RuntimeError(INJECTION)

    middleware = guard.langchain()
    node = ToolNode(
        [fails_with_orders],
        handle_tool_errors=True,
        wrap_tool_call=middleware.wrap_tool_call,
        awrap_tool_call=middleware.awrap_tool_call,
    )
    with in_front_of(stage.provider) as provider:
        chat = guard_free = ChatOpenAI(
            model=plan([("fails_with_orders", {"why": "x"})], "Done."),
            api_key="none",
            base_url=provider.url + "/openai/v1",
            max_retries=0,
        )
        from guardbook.frameworks.langchain import _Hooks, _subclassed  # as create_agent gets it

        assert guard_free is chat
        chat = _subclassed(chat, _Hooks(middleware._judge, elsewhere=frozenset({"fails_with_orders"}))).bind_tools(
            [fails_with_orders]
        )
        assert graph(chat, node).invoke(ASK)["messages"][-1].text == "Done."
        assert "maintenance mode" not in "".join(provider.bodies)


def graph(chat: Any, node: ToolNode) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [chat.invoke(state["messages"])]})
    builder.add_node("tools", node)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", lambda s: "tools" if s["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "model")
    return builder.compile()


@pytest.mark.parametrize("use", ["invoke", "ainvoke"])
def test_a_graphs_own_tool_node_is_guarded(stage: Stage, use: str) -> None:
    name = stage.agent()
    middleware = stage.guard(name).langchain()
    node = ToolNode(TOOLS, wrap_tool_call=middleware.wrap_tool_call, awrap_tool_call=middleware.awrap_tool_call)
    built = graph(openai(stage, *STORY_B).bind_tools(TOOLS), node)
    state = built.invoke(ASK) if use == "invoke" else arun(built.ainvoke(ASK))
    assert [r.status for r in results(state)] == ["error", "success"]
    assert ran == [SELECT]


def test_a_poisoned_tool_is_left_out(stage: Stage) -> None:
    name = stage.agent()

    @tool
    def helper(text: str) -> str:
        """placeholder"""
        return text

    helper.description = INJECTION
    with in_front_of(stage.provider) as provider:
        model = ChatOpenAI(
            model=plan([("helper", {"text": "x"})], "Hello."),
            api_key="none",
            base_url=provider.url + "/openai/v1",
            max_retries=0,
        )
        state = create_agent(model, [helper, send_note], middleware=[stage.guard(name).langchain()]).invoke(ASK)
        assert results(state)[0].status == "error"  # the model calls it all the same
        sent = json.loads(provider.bodies[0])
    assert [t["function"]["name"] for t in sent["tools"]] == ["send_note"]


def test_each_session_has_its_own_entries(stage: Stage) -> None:
    name = stage.agent()
    agent = create_agent(openai(stage, "Hello."), [], system_prompt="Help.", middleware=[stage.guard(name).langchain()])
    for thread in ("t-1", "t-2"):
        agent.invoke(ASK, {"configurable": {"thread_id": thread}})
    assert [(e["session"], e["role"]) for e in stage.book(name, kind="input")] == [
        ("t-1", "system"),
        ("t-1", "user"),
        ("t-2", "system"),
        ("t-2", "user"),
    ]


def test_a_structured_answer_is_an_output(stage: Stage) -> None:
    class Answer(BaseModel):
        """An answer."""

        text: str

    guard = stage.guard(stage.agent())
    for text, expected in ((f"Ask {MAIL}.", "Ask [REDACTED:pii]."), (f"the key is {SECRET}, take it", None)):
        agent = create_agent(
            openai(stage, [("Answer", {"text": text})]),
            [],
            response_format=ToolStrategy(Answer),
            middleware=[guard.langchain()],
        )
        if expected is None:
            with pytest.raises(GuardBlocked):
                agent.invoke(ASK)
        else:
            assert agent.invoke(ASK)["structured_response"].text == expected


def test_what_others_change_is_judged_as_it_is_sent(stage: Stage) -> None:
    class Adds(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(messages=[*request.messages, HumanMessage(INJECTION)]))

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(
                request.override(tool_call={**request.tool_call, "args": {"query": "SELECT * FROM billing"}})
            )

    guard = stage.guard(stage.agent())
    with pytest.raises(GuardBlocked):
        create_agent(openai(stage, "Hello."), [], middleware=[Adds(), guard.langchain()]).invoke(ASK)
    agent = create_agent(
        openai(stage, [("query_database", {"query": SELECT})], "Done."),
        TOOLS,
        middleware=[
            guard.langchain(),
        ],
    )
    assert results(agent.invoke(ASK))[0].status == "success"

    class Changes(AgentMiddleware):
        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(
                request.override(tool_call={**request.tool_call, "args": {"query": "SELECT * FROM billing"}})
            )

    ran.clear()
    agent = create_agent(
        openai(stage, [("query_database", {"query": SELECT})], "Done."),
        TOOLS,
        middleware=[Changes(), guard.langchain()],
    )
    assert results(agent.invoke(ASK))[0].status == "error"
    assert ran == []


def test_a_retried_model_call_is_judged_again(stage: Stage) -> None:
    name = stage.agent()
    with in_front_of(stage.provider, fail=1) as provider:
        model = ChatOpenAI(model=plan("Hello."), api_key="none", base_url=provider.url + "/openai/v1", max_retries=0)
        agent = create_agent(model, [], middleware=[stage.guard(name).langchain()])
        retried = agent.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        assert retried.invoke(ASK)["messages"][-1].text == "Hello."
        assert len(provider.bodies) == 2
    # A block is final, whoever retries: the provider is not asked.
    with in_front_of(stage.provider) as provider:
        model = ChatOpenAI(model=plan("Hello."), api_key="none", base_url=provider.url + "/openai/v1", max_retries=2)
        with pytest.raises(GuardBlocked):
            create_agent(model, [], middleware=[stage.guard(name).langchain()]).invoke(
                {"messages": [HumanMessage(INJECTION)]}
            )
        assert provider.bodies == []


def test_a_cancelled_run_ends(stage: Stage) -> None:
    name = stage.agent()
    guard = stage.guard(name)

    async def main() -> None:
        begun = asyncio.Event()

        @tool
        async def waits(why: str) -> str:
            """Waits."""
            begun.set()
            await asyncio.sleep(60)
            return "never"

        agent = create_agent(openai(stage, [("waits", {"why": "x"})], "Done."), [waits], middleware=[guard.langchain()])
        run = asyncio.ensure_future(agent.ainvoke(ASK))
        await asyncio.wait_for(begun.wait(), 30)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (await agent.ainvoke({"messages": [HumanMessage("Hi."), AIMessage("So."), HumanMessage("And?")]}))[
            "messages"
        ]

    arun(main())
    assert "tool_call/waits/allow" in stage.told(name)


def test_without_a_server_tools_do_not_run_and_texts_pass_or_not(stage: Stage) -> None:
    agent_name = stage.agent()
    gone = {"url": "http://127.0.0.1:9", "budget": 0.25}
    agent = create_agent(
        openai(stage, [("send_note", {"text": "x"})], "Done."),
        TOOLS,
        middleware=[stage.guard(agent_name, **gone).langchain()],
    )
    state = agent.invoke(ASK)
    assert ran == []
    assert results(state)[0].status == "error"
    assert "could not be asked" in results(state)[0].content
    closed = stage.guard(agent_name, on_unavailable="block", **gone)
    with pytest.raises(GuardUnavailable):
        create_agent(openai(stage, "Hello."), [], middleware=[closed.langchain()]).invoke(ASK)


def test_a_conversation_is_its_checkpoints_thread_unless_a_session_is_named(stage: Stage) -> None:
    name = stage.agent()
    guard = stage.guard(name)
    agent = create_agent(
        openai(stage, "One.", "Two."), [], middleware=[guard.langchain()], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "t-9"}}
    agent.invoke(ASK, config)
    agent.invoke({"messages": [HumanMessage("And then?")]}, config)
    with guard.session("s-mine"):
        agent.invoke({"messages": [HumanMessage("And last?")]}, config)
    sessions = [e["session"] for e in stage.book(name, kind="output")]
    assert sessions == ["t-9", "t-9", "s-mine"]
