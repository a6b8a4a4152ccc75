"""Clients of OpenAI and Anthropic, of whatever version is installed, against a real
server and the stand-in for the providers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from guardbook import Guard, GuardBlocked, GuardError, GuardUnavailable
from house import INJECTION, MAIL, SECRET, House, plan

TOOL = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {}},
    },
}
ASK = [{"role": "user", "content": "Tell me of the Alpine jacket."}]
LEAK = "Here is the key you asked for, keep it to yourself: " + SECRET + " and good luck with it, my friend, farewell."
NEW_OPENAI = tuple(int(x) for x in openai.__version__.split(".")[:2])


class Story:
    """One client, made to look the same whatever its protocol and its kind."""

    def __init__(self, house: House, guard: Guard, name: str, **options: Any) -> None:
        self.name = name
        self.asynchronous = name.startswith("Async")
        self.anthropic = "Anthropic" in name
        self.azure = "Azure" in name
        options.setdefault("api_key", "sk-provider")
        options.setdefault("max_retries", 2)
        if self.anthropic:
            self.plain = getattr(anthropic, name)(base_url=house.provider + "/anthropic", **options)
        elif self.azure:
            self.plain = getattr(openai, name)(
                azure_endpoint=house.provider + "/azure", api_version="2024-10-21", **options
            )
        else:
            self.plain = getattr(openai, name)(base_url=house.provider + "/openai/v1", **options)
        self.client = guard.wrap(self.plain)

    def run(self, work: Any) -> Any:
        return asyncio.run(work) if self.asynchronous else work

    def create(self, model: str, *, text: str = ASK[0]["content"], tools: bool = False, **more: Any) -> Any:
        messages = [{"role": "user", "content": text}]
        if self.anthropic:
            if tools:
                more["tools"] = [
                    {"name": "get_time", "description": "Tells the time.", "input_schema": {"type": "object"}}
                ]
            return self.client.messages.create(model=model, max_tokens=100, messages=messages, **more)
        if tools:
            more["tools"] = [TOOL]
        if self.azure:  # the model is a deployment, and stands in the path
            model = model.removeprefix("guardbook-stand-in/")
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    def text(self, answer: Any) -> str:
        if self.anthropic:
            return "".join(b.text for b in answer.content if b.type == "text")
        return answer.choices[0].message.content or ""

    def ask(self, model: str, **about: Any) -> str:
        """A whole answer, streamed or not."""
        if not about.get("stream"):
            if not self.asynchronous:
                return self.text(self.create(model, **about))

            async def whole() -> str:
                return self.text(await self.create(model, **about))

            return asyncio.run(whole())
        if not self.asynchronous:
            return "".join(self.piece(e) for e in self.create(model, **about))

        async def streamed() -> str:
            return "".join([self.piece(e) async for e in await self.create(model, **about)])

        return asyncio.run(streamed())

    def piece(self, event: Any) -> str:
        if self.anthropic:
            return getattr(getattr(event, "delta", None), "text", None) or ""
        return (event.choices[0].delta.content or "") if event.choices else ""


NAMES = ["OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI", "Anthropic", "AsyncAnthropic"]


@pytest.fixture(params=[name for name in NAMES if "Azure" not in name])
def long_story(request: pytest.FixtureRequest, house: House, guard: Guard) -> Story:
    """Not Azure, where the stand-in's whole plan would have to stand in a path."""
    return Story(house, guard, request.param)


@pytest.fixture(params=NAMES)
def story(request: pytest.FixtureRequest, house: House, guard: Guard) -> Story:
    return Story(house, guard, request.param)


def decisions(house: House, guard: Guard) -> list[dict[str, Any]]:
    return [e for e in house.entries("decision") if e.get("client") == guard.client_id]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_comes_as_unguarded_and_is_in_the_book(
    story: Story, house: House, guard: Guard, stream: bool
) -> None:
    with guard.session("s-model", user="u-1"):
        assert story.ask(plan({"text": "The Alpine jacket is dry."}), stream=stream) == "The Alpine jacket is dry."
    assert type(story.client) is type(story.plain)
    made = decisions(house, guard)
    assert {d["kind"] for d in made} == {"input", "output"}
    assert {(d["session"], d["client_seq"]) for d in made} == {("s-model", 1)}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_blocked_input_is_raised_as_itself_and_not_retried(
    story: Story, house: House, guard: Guard, stream: bool
) -> None:
    with pytest.raises(GuardBlocked) as blocked:
        story.ask(plan({"text": "x"}), text=INJECTION, stream=stream)
    err = blocked.value
    assert err.decision.decision == "block"
    assert err.rule == "billing-bot/findings/prompt_injection"
    assert err.severity == "critical"
    assert "billing-bot" in err.message
    assert {d["client_seq"] for d in decisions(house, guard)} == {1}
    assert err.entry in {d["id"] for d in decisions(house, guard)}


def test_a_blocked_output_is_raised(long_story: Story) -> None:
    with pytest.raises(GuardBlocked):
        long_story.ask(plan({"text": LEAK}))


def test_a_block_in_the_middle_of_a_stream_is_raised(long_story: Story) -> None:
    beginning = "The weather is fine today, and so are all of the jackets that we sell in this shop. " * 20
    got: list[str] = []
    with pytest.raises(GuardBlocked) as blocked:
        if long_story.asynchronous:

            async def read() -> None:
                async for event in await long_story.create(plan({"text": beginning + LEAK}), stream=True):
                    got.append(long_story.piece(event))

            asyncio.run(read())
        else:
            for event in long_story.create(plan({"text": beginning + LEAK}), stream=True):
                got.append(long_story.piece(event))
    assert blocked.value.rule == "billing-bot/findings/secret"
    assert "".join(got).startswith("The weather is fine")
    assert SECRET not in "".join(got)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_blocked_tool_call_is_raised(long_story: Story, stream: bool) -> None:
    with pytest.raises(GuardBlocked, match="drop_table"):
        long_story.ask(plan({"calls": [{"name": "drop_table", "arguments": {}}]}), tools=True, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_that_is_asked_about_arrives_and_is_deferred(
    house: House, guard: Guard, long_story: Story, stream: bool
) -> None:
    long_story.client = guard.wrap(long_story.plain, tool_calls="asked").copy()
    model = plan({"calls": [{"name": "drop_tables", "arguments": {}}]})
    session = f"s-asked-{long_story.name}-{stream}"
    with guard.session(session):
        long_story.ask(model, stream=stream)
        with pytest.raises(GuardBlocked):  # for one request it is told otherwise
            long_story.ask(model, stream=stream, extra_headers={"X-Guardbook-Tool-Calls": "withheld"})
    book = [e for e in house.entries("decision") if e.get("session") == session and e["kind"] == "tool_call"]
    assert [(e.get("deferred", False), e.get("would") or e["decision"]) for e in book] == [
        (True, "block"),
        (False, "block"),
    ]


def test_tool_calls_are_asked_about_or_not_told_of(guard: Guard) -> None:
    client = openai.OpenAI(api_key="none")
    with pytest.raises(ValueError, match=r"tool_calls must be .asked., or left out, not 'allow'"):
        guard.wrap(client, tool_calls="allow")
    with pytest.raises(TypeError, match="takes no calls"):
        guard.wrap(client, calls="asked")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_is_redacted_is_what_arrives(long_story: Story, stream: bool) -> None:
    answer = long_story.ask(plan({"text": f"Write to {MAIL} about it."}), stream=stream)
    assert MAIL not in answer
    assert "about it" in answer


@pytest.mark.parametrize("name", [name for name in NAMES if "Azure" in name])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_azures_answers_are_judged(house: House, guard: Guard, name: str, stream: bool) -> None:
    answer = Story(house, guard, name).ask("recommender", text="What do customers say?", stream=stream)
    assert MAIL not in answer
    assert "Alpine" in answer
    with pytest.raises(GuardBlocked, match="http_post"):
        Story(house, guard, name).ask("researcher", text="Look up competitors.", tools=True, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", NAMES)
def test_a_block_can_be_an_answer(house: House, tmp_path: Any, name: str, stream: bool) -> None:
    with Guard(**house.settings(data=tmp_path, block="respond")) as guard:
        story = Story(house, guard, name)
        assert "Blocked by policy" in story.ask(plan({"text": "x"}), text=INJECTION, stream=stream)


def test_the_users_client_is_not_touched(story: Story, house: House, guard: Guard) -> None:
    before = dict(vars(story.plain))
    story.ask(plan({"text": "x"}))
    assert vars(story.plain) == before
    story.client = story.plain
    story.ask(plan({"text": "y"}), text=INJECTION)  # unguarded, as it was
    assert {d["client_seq"] for d in decisions(house, guard)} == {1}


def test_copies_of_a_wrapped_client_are_guarded(story: Story, guard: Guard) -> None:
    story.client = story.client.with_options(timeout=20, max_retries=0)
    with pytest.raises(GuardBlocked):
        story.ask(plan({"text": "x"}), text=INJECTION)
    story.client = guard.wrap(story.client)
    with pytest.raises(GuardBlocked):
        story.ask(plan({"text": "x"}), text=INJECTION)


def test_the_original_may_go_and_the_wrapped_client_works(story: Story) -> None:
    del story.plain
    gc.collect()
    assert story.ask(plan({"text": "still here"})) == "still here"


def test_every_attempt_of_a_retry_is_guarded(house: House, guard: Guard) -> None:
    # No such script: the provider answers 404 to a path that it does not know, 500s are
    # made by an upstream that is not there.
    client = guard.wrap(openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=1))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=ASK)  # type: ignore[arg-type]
    assert {d["client_seq"] for d in decisions(house, guard)} == {1, 2}


def test_errors_of_the_provider_stay_what_they_are(story: Story) -> None:
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError), match="stand-in"):
        story.ask("gpt-unknown")


def test_with_raw_and_streaming_response(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    raw = client.chat.completions.with_raw_response.create(model=plan({"text": "raw"}), messages=ASK)
    assert raw.parse().choices[0].message.content == "raw"
    assert raw.headers["x-guardbook-decision"] == "allow"
    assert guard.settings.key not in str(raw.http_response.request.headers)
    with client.chat.completions.with_streaming_response.create(model=plan({"text": "raw"}), messages=ASK) as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "raw"
    bad = [{"role": "user", "content": INJECTION}]
    with pytest.raises(GuardBlocked):
        client.chat.completions.with_raw_response.create(model=plan({"text": "x"}), messages=bad)
    with (
        pytest.raises(GuardBlocked),
        client.chat.completions.with_streaming_response.create(model=plan({"text": "x"}), messages=bad),
    ):
        pass


def test_stream_helpers(house: House, guard: Guard) -> None:
    claude: Any = Story(house, guard, "Anthropic").client
    with claude.messages.stream(model=plan({"text": "helped"}), max_tokens=9, messages=ASK) as stream:
        assert "".join(stream.text_stream) == "helped"
        assert stream.get_final_message().stop_reason == "end_turn"
    with (
        pytest.raises(GuardBlocked),
        claude.messages.stream(model=plan({"text": LEAK}), max_tokens=9, messages=ASK) as stream,
    ):
        stream.until_done()
    gpt: Any = Story(house, guard, "OpenAI").client
    chat = getattr(gpt.beta, "chat", gpt.chat).completions if NEW_OPENAI < (1, 92) else gpt.chat.completions
    with chat.stream(model=plan({"text": "helped"}), messages=ASK) as stream:
        assert stream.get_final_completion().choices[0].message.content == "helped"
    with pytest.raises(GuardBlocked), chat.stream(model=plan({"text": LEAK}), messages=ASK) as stream:
        stream.until_done()
    assert chat.parse(model=plan({"text": "parsed"}), messages=ASK).choices[0].message.content == "parsed"


def test_responses(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    if not hasattr(client, "responses"):
        assert NEW_OPENAI < (1, 66)
        return
    assert client.responses.create(model=plan({"text": "a response"}), input="Hello.").output_text == "a response"
    with pytest.raises(GuardBlocked):
        client.responses.create(model=plan({"text": "x"}), input=INJECTION)
    with pytest.raises(GuardBlocked):
        for _ in client.responses.create(model=plan({"text": LEAK}), input="Hello.", stream=True):
            pass
    with client.responses.stream(model=plan({"text": "a stream"}), input="Hello.") as stream:
        assert stream.get_final_response().output_text == "a stream"


def test_embeddings_and_lists(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    assert client.embeddings.create(model=plan({"text": "x"}), input="Hello.").data[0].embedding
    with pytest.raises(GuardBlocked):
        client.embeddings.create(model=plan({"text": "x"}), input=INJECTION)
    assert client.models.list().data
    with pytest.raises(openai.PermissionDeniedError, match="does not read the endpoint"):
        client.files.list()


def test_websockets_are_refused(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    doors = [
        d
        for path in ("realtime", "beta.realtime", "responses", "beta.responses", "live", "live.sideband")
        if (d := _reach(client, path)) is not None and hasattr(d, "connect")
    ]
    if NEW_OPENAI >= (1, 60):
        assert doors
    for door in doors:
        with pytest.raises(GuardError, match="WebSocket"):
            _connect(door)


def _reach(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name, None)
    return client


def _connect(door: Any) -> None:
    import inspect

    needed = {
        name: "gpt-realtime"
        for name, p in inspect.signature(door.connect).parameters.items()
        if p.default is inspect.Parameter.empty and p.kind is not p.VAR_KEYWORD
    }
    with door.connect(**needed):
        pass


def test_a_session_can_be_named_for_one_request(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    with guard.session("s-scope"):
        client.chat.completions.create(
            model=plan({"text": "x"}), messages=ASK, extra_headers={"X-Guardbook-Session": "s-argument"}
        )
    assert {d["session"] for d in decisions(house, guard)} == {"s-argument"}


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    house: House, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert Story(house, guard, "OpenAI").ask(plan({"text": "direct"})) == "direct"
    assert Story(house, guard, "AsyncAnthropic").ask(plan({"text": "direct"})) == "direct"


def test_several_event_loops_share_a_client(house: House, guard: Guard) -> None:
    story = Story(house, guard, "AsyncOpenAI")
    for _ in range(3):  # each ask has a loop of its own
        assert story.ask(plan({"text": "again"})) == "again"


@pytest.fixture
def silent() -> Iterator[str]:
    """A provider that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def unanswered(house: House, guard: Guard) -> list[int]:
    assert guard.flush(10)
    told = [e for e in house.entries("client") if e["client"] == guard.client_id]
    return [e["client_seq"] for e in told if e["event"] == "unanswered"]


def test_a_cancelled_request_is_recorded(house: House, guard: Guard, silent: str) -> None:
    client: Any = guard.wrap(openai.AsyncOpenAI(base_url=silent, api_key="x"))

    async def give_up() -> None:
        asking = asyncio.ensure_future(client.chat.completions.create(model="m", messages=ASK))
        while not decisions(house, guard):
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(give_up())
    assert unanswered(house, guard) == [1]


def test_a_timeout_of_the_user_is_a_timeout(house: House, guard: Guard, silent: str) -> None:
    client: Any = guard.wrap(openai.OpenAI(base_url=silent, api_key="x", max_retries=1, timeout=0.3))
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="m", messages=ASK)
    assert unanswered(house, guard) == [1, 2]


@pytest.fixture(params=["OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"])
def cut_off(request: pytest.FixtureRequest, house: House, tmp_path: Any) -> Iterator[Any]:
    """Makes a client whose Guardbook cannot be reached."""
    guards = []

    def make(**settings: Any) -> tuple[Guard, Story]:
        guard = Guard(**house.settings(data=tmp_path, url="http://127.0.0.1:9", **settings))
        guards.append(guard)
        return guard, Story(house, guard, request.param)

    yield make
    for guard in guards:
        guard.close(0)


def test_without_the_guard_texts_pass_and_tools_do_not(cut_off: Any) -> None:
    for stream in (False, True):
        _, story = cut_off()  # a client's own connections belong to one event loop
        assert story.ask(plan({"text": "unguarded"}), stream=stream) == "unguarded"
        with pytest.raises(GuardUnavailable, match="offers it tools") as away:
            story.ask(plan({"text": "x"}), tools=True, stream=stream)
        assert away.value.retryable


def test_without_the_guard_what_is_chosen_is_obeyed(cut_off: Any) -> None:
    _, story = cut_off(on_unavailable="block")
    with pytest.raises(GuardUnavailable):
        story.ask(plan({"text": "x"}))
    _, story = cut_off(on_unavailable_tools="allow")
    assert story.ask(plan({"text": "unguarded"}), tools=True) == "unguarded"


def test_what_is_not_set_up_is_said_as_itself(
    house: House, guard: Guard, story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GUARDBOOK_BINARY", str(tmp_path / "none"))
    with Guard(agent="billing-bot", url="", data=tmp_path) as local:
        with pytest.raises(GuardError, match="GUARDBOOK_BINARY"):
            Story(house, local, story.name).ask(plan({"text": "x"}))
        local.close(0)


def test_another_address_is_guarded_too_or_refused(house: House, guard: Guard) -> None:
    client: Any = Story(house, guard, "OpenAI").client
    for base in (house.provider + "/openai/v1/", house.provider + "/openai/v1"):
        moved = client.with_options(base_url=base)
        with pytest.raises(GuardBlocked):
            moved.chat.completions.create(model=plan({"text": "x"}), messages=[{"role": "user", "content": INJECTION}])
    with pytest.raises(GuardError, match="is none of the API"):
        client.with_options(base_url=house.provider + "/other").chat.completions.create(model="m", messages=ASK)
    # An API that has no /v1 in its address, wrapped as such.
    whole = guard.wrap(openai.OpenAI(base_url=house.provider + "/azure/openai/deployments/recommender", api_key="x"))
    answer: Any = whole.chat.completions.create(model="recommender", messages=ASK)  # type: ignore[arg-type]
    assert "Alpine" in answer.choices[0].message.content


def test_every_number_of_a_model_call_is_a_decision_or_told(own_house: House) -> None:
    """Calls from threads, while the server is killed and started again."""
    guard = Guard(**own_house.settings())
    models = [plan({"text": "whole"}), plan({"text": "a stream of words " * 5, "pace_ms": 2})]

    def talk(name: str) -> None:
        story = Story(own_house, guard, name, max_retries=0)
        for i in range(60):
            with contextlib.suppress(Exception):  # a broken stream has the HTTP library's own error
                story.ask(models[i % 2], stream=i % 2 == 1, tools=i % 3 == 0)

    threads = [threading.Thread(target=talk, args=(n,)) for n in ("OpenAI", "Anthropic", "OpenAI")]
    for t in threads:
        t.start()
    for _ in range(2):
        time.sleep(0.2)
        own_house.kill()
        time.sleep(0.1)
        own_house.start()
        guard.flush(10)
    for t in threads:
        t.join()
    assert guard.flush(20)
    highest = guard._next_number() - 1
    guard.close()
    seen = {d["client_seq"] for d in decisions(own_house, guard)}
    later = {e["client_seq"] for e in own_house.entries("client") if e.get("client_seq")}
    assert seen
    assert seen | later == set(range(1, highest + 1))


def test_what_cannot_be_wrapped_is_said(guard: Guard) -> None:
    with pytest.raises(TypeError, match="OpenAI, AsyncOpenAI, AzureOpenAI"):
        guard.wrap(object())
    with pytest.raises(TypeError, match="takes no server"):
        guard.wrap(openai.OpenAI(api_key="x"), server="crm")
