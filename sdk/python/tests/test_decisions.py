"""What is asked, what comes back, and what is obeyed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from guardbook import Guard, GuardBlocked, GuardError, Interaction, Tool
from guardbook.encode import dumps, plain
from house import INJECTION, MAIL, House


def decisions(house: House, guard: Guard) -> list[dict[str, Any]]:
    return [e for e in house.entries("decision") if e.get("client") == guard.client_id]


def test_a_decision_and_its_entry(house: House, guard: Guard) -> None:
    decision = guard.decide("input", "What time is it?", role="user")
    assert (decision.decision, decision.guarded, decision.client_seq) == ("allow", True, 1)
    [entry] = decisions(house, guard)
    assert entry["id"] == decision.entry
    assert entry["path"] == "inspect/python"
    assert entry["client_seq"] == 1


def test_a_block_is_told_or_raised(guard: Guard) -> None:
    decision = guard.decide("tool_result", INJECTION, tool=Tool("get_time"))
    assert decision.blocked
    assert decision.findings[0].cls == "prompt_injection"
    with pytest.raises(GuardBlocked) as blocked:
        guard.inspect("input", INJECTION)
    assert blocked.value.rule == "billing-bot/findings/prompt_injection"
    assert blocked.value.message == str(blocked.value) == blocked.value.decision.message


def test_hold_is_obeyed_as_block(guard: Guard) -> None:
    decision = guard.decide("tool_call", tool=Tool("approve_me"))
    assert decision.decision == "hold"
    assert decision.blocked
    with pytest.raises(GuardBlocked):
        guard.inspect("tool_call", tool=Tool("approve_me"))


def test_what_is_redacted_comes_back_in_its_own_form(guard: Guard) -> None:
    assert guard.decide("output", f"Ask {MAIL}.").content == "Ask [REDACTED:pii]."
    parts = guard.decide("output", [{"type": "image"}, {"type": "text", "text": f"Ask {MAIL}."}])
    assert parts.content == [{"type": "image"}, {"type": "text", "text": "Ask [REDACTED:pii]."}]
    call = guard.inspect(
        "tool_call", tool=Tool("send_email", {"to": MAIL.split("@")[0] + "@example.com", "body": "Hello."})
    )
    assert call.redacted
    assert call.arguments == {"to": "[REDACTED:pii]", "body": "Hello."}


def test_a_batch_is_decided_in_order(house: House, guard: Guard) -> None:
    asked = [Interaction("input", f"Hello {i}.") for i in range(300)]
    asked[270] = Interaction("input", INJECTION)
    made = guard.decide_batch(asked)
    assert [i for i, d in enumerate(made) if d.blocked] == [270]
    assert [d.client_seq for d in made] == list(range(1, 301))
    assert {d["client_seq"] for d in decisions(house, guard)} == set(range(1, 301))
    assert guard.decide_batch([]) == []


def test_asyncio_asks_the_same(house: House, guard: Guard) -> None:
    async def ask() -> list[str]:
        one = await guard.adecide("input", "Hello.")
        with pytest.raises(GuardBlocked):
            await guard.ainspect("input", INJECTION)
        many = await guard.adecide_batch([Interaction("input", "Hello."), Interaction("input", INJECTION)])
        at_once = await asyncio.gather(*(guard.adecide("input", f"Hello {i}.") for i in range(50)))
        return [one.decision, *(d.decision for d in many), *{d.decision for d in at_once}]

    for _ in range(2):  # two event loops, one guard
        assert asyncio.run(ask()) == ["allow", "allow", "block", "allow"]
    assert {d["client_seq"] for d in decisions(house, guard)} == set(range(1, 109))


def test_a_cancelled_question_does_not_answer_the_next(guard: Guard) -> None:
    async def ask() -> None:
        for i in range(40):
            asking = asyncio.ensure_future(guard.adecide("input", INJECTION))
            for _ in range(i % 5):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert not (await guard.adecide("input", "Hello.")).blocked

    asyncio.run(ask())


def test_threads_share_a_guard(house: House, guard: Guard) -> None:
    wrong: list[str] = []

    def ask(n: int) -> None:
        for i in range(25):
            bad = (n + i) % 2 == 1
            if guard.decide("input", INJECTION if bad else "Hello.").blocked != bad:
                wrong.append(f"{n}/{i}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert {d["client_seq"] for d in decisions(house, guard)} == set(range(1, 201))


def test_a_session_is_the_argument_then_the_scope_then_the_thread_then_the_guards_own(
    house: House, guard: Guard
) -> None:
    guard.decide("input", "1")
    guard.decide("input", "2", thread="t-1")
    guard.decide("input", "3", thread="line\nbreak")
    with guard.session("s-1", user="u-1", parent="boss"):
        guard.decide("input", "4", thread="t-1")
        guard.decide("input", "5", session="s-2", user="u-2")
        with guard.session("s-3"):
            guard.decide("input", "6")
        with guard.session(context="Answer billing questions."):
            guard.decide("input", "7")
    made = sorted(decisions(house, guard), key=lambda d: int(d["client_seq"]))
    own = guard.session_id()
    hashed = made[2]["session"]
    assert [d["session"] for d in made] == [own, "t-1", hashed, "s-1", "s-2", "s-3", "s-1"]
    assert hashed.startswith("sha256:")
    assert [d.get("user") for d in made[3:6]] == ["u-1", "u-2", "u-1"]
    for bad in ("", "a\nb", "x" * 257):
        with pytest.raises(ValueError, match="session must be printable"), guard.session(bad):
            pass


def test_scopes_do_not_leak_between_tasks(guard: Guard) -> None:
    async def one(name: str) -> str:
        with guard.session(name):
            await asyncio.sleep(0)
            return guard.session_id()

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(f"s-{i}") for i in range(20)))

    assert asyncio.run(all_of_them()) == [f"s-{i}" for i in range(20)]


def test_whatever_an_agent_says_can_be_asked_about(guard: Guard) -> None:
    @dataclasses.dataclass
    class Order:
        number: int

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    loop: dict[str, Any] = {}
    loop["self"] = loop
    for text in ("\ud800 half a pair", "\x00\x1b[31m", "\u202e", "x" * 300_000):
        assert guard.decide("input", text).guarded
    values: list[Any] = [float("nan"), {1, 2}, b"\xff\xfe", b"text", Order(1), Hostile(), 10**40, Path("/")]
    values += [{1: "a", ("x", 2): "b"}, loop]
    for value in values:
        assert guard.decide("tool_call", tool=Tool("get_time", {"value": value})).guarded
    assert plain({1: {float("inf")}, "o": Order(2)}) == {"1": ["inf"], "o": {"number": 2}}
    assert dumps("\ud800") == b'"?"'


def test_a_refused_question_is_an_error_and_recorded(house: House, guard: Guard, tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="kind must be one of"):
        guard.decide("thought", "x")  # type: ignore[arg-type]
    with (
        Guard(**house.settings(key="gbk_wrong", data=tmp_path / "wrong")) as wrong,
        pytest.raises(GuardError, match="key is not known"),
    ):
        wrong.decide("input", "x")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_is_a_client_of_its_own(house: House, guard: Guard) -> None:
    guard.decide("input", "parent")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                ok = all(guard.decide("input", f"child {i}").guarded for i in range(20))
                ok = ok and asyncio.run(guard.adecide("input", "child, async")).guarded
                os._exit(0 if ok else 1)
            except BaseException:
                os._exit(2)
        children.append(pid)
        guard.decide("input", "parent")
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert {d["client_seq"] for d in decisions(house, guard)} == set(range(1, 6))
    children_seen = {d["client"] for d in house.entries("decision") if d.get("client_seq") == 21}
    assert len(children_seen - {guard.client_id}) >= 4


def test_settings_say_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GUARDBOOK_"):
            monkeypatch.delenv(name)
    for wrong, said in (
        ({"on_unavailable": "maybe"}, "on_unavailable must be allow or block, not 'maybe'"),
        ({"on_unavailable_tools": "open"}, "on_unavailable_tools must be block or allow"),
        ({"block": "stop"}, "block must be raise or respond"),
        ({"budget": 0}, "budget must be seconds between"),
        ({"url": "localhost:8787"}, "url must look like http://127.0.0.1:8787"),
        ({"url": "http://u:p@x", "key": "gbk_x"}, "without user"),
        ({"url": "http://x", "key": "gbo_x"}, "operator's token"),
        ({"url": "http://x", "key": "gbk x"}, "no agent's key"),
        ({"session": "a\nb"}, "session must be printable"),
    ):
        with pytest.raises(ValueError, match=said.replace("(", r"\(")):
            Guard(agent="a", **wrong)  # type: ignore[arg-type]
    with pytest.raises(GuardError, match="set GUARDBOOK_KEY"):
        Guard(url="http://x")
    with pytest.raises(GuardError, match="GUARDBOOK_AGENT"):
        Guard()
    monkeypatch.setenv("GUARDBOOK_URL", "http://guard:8787/")
    monkeypatch.setenv("GUARDBOOK_KEY", "gbk_1")
    monkeypatch.setenv("GUARDBOOK_AGENT", "a")
    monkeypatch.setenv("GUARDBOOK_ON_UNAVAILABLE", "block")
    monkeypatch.setenv("GUARDBOOK_BUDGET", "0.5")
    s = Guard().settings
    assert (s.url, s.key, s.agent, s.on_unavailable, s.budget) == ("http://guard:8787", "gbk_1", "a", "block", 0.5)
    assert Guard(on_unavailable="allow").settings.on_unavailable == "allow"
    monkeypatch.setenv("GUARDBOOK_ON_UNAVAILABLE", "perhaps")
    with pytest.raises(ValueError, match="GUARDBOOK_ON_UNAVAILABLE must be allow or block"):
        Guard()
