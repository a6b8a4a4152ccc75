"""What happens when the server is away, and that nothing of it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardbook import Guard, GuardUnavailable, Interaction, Tool
from guardbook.breaker import Breaker
from guardbook.recorder import Recorder, now, uuid7
from guardbook.spool import Origin
from guardbook.wire import Target, Unreachable
from house import House, free_port

NOWHERE = "http://127.0.0.1:9"


def told(house: House, client: str) -> list[dict[str, Any]]:
    return [e for e in house.entries("client") if e["client"] == client]


def account(house: House, client: str) -> dict[str, Any]:
    """The server's own account of a client."""
    for line in house.cli("clients", "--json").splitlines():
        row = json.loads(line)
        if row["client"] == client:
            return dict(row)
    raise AssertionError(f"the server does not know {client}")


def test_texts_pass_and_tool_calls_do_not(own_house: House) -> None:
    own_house.kill()
    with Guard(**own_house.settings()) as guard:
        passed = guard.decide("input", "Hello.")
        assert (passed.decision, passed.guarded, passed.entry) == ("allow", False, "")
        assert "connection refused" in passed.message
        with pytest.raises(GuardUnavailable, match="this tool call may not pass") as away:
            guard.inspect("tool_call", tool=Tool("get_time", {"secret": "never told"}, server="crm"))
        assert away.value.retryable
        with pytest.raises(GuardUnavailable):
            asyncio.run(guard.adecide("tool_call", tool=Tool("get_time")))
        with pytest.raises(GuardUnavailable):
            guard.decide_batch([Interaction("input", "x"), Interaction("tool_call", tool=Tool("get_time"))])
        assert not guard.flush(1)
        own_house.start()
        assert guard.decide("input", "Hello.").guarded
        assert guard.flush(10)
        events = told(own_house, guard.client_id)
        assert [(e["event"], e.get("client_seq")) for e in events] == [
            ("unguarded", 1), ("refused", 2), ("refused", 3), ("refused", 4), ("refused", 5), ("degraded", None),
        ]  # fmt: skip
        assert events[1]["tool"] == {"server": "crm", "name": "get_time"}
        assert "never told" not in json.dumps(events)
        assert events[-1]["count"] == 5
        assert events[-1]["from"] <= events[0]["ts"] <= events[-1]["to"]
        assert account(own_house, guard.client_id)["missing"] in (None, [])


def test_what_is_chosen_is_obeyed(tmp_path: Path) -> None:
    with Guard(url=NOWHERE, key="gbk_x", data=tmp_path, on_unavailable="block", on_unavailable_tools="allow") as guard:
        with pytest.raises(GuardUnavailable, match="this tool result may not pass"):
            guard.decide("tool_result", "x")
        assert not guard.decide("tool_call", tool=Tool("get_time")).guarded
        guard.close(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process in its tracks")
def test_a_server_that_does_not_answer_in_time_is_not_waited_for(own_house: House) -> None:
    with Guard(**own_house.settings()) as guard:
        assert guard.decide("input", "Hello.").guarded
        assert asyncio.run(guard.adecide("input", "Hello.")).guarded
        own_house.pause()
        assert "no answer in time" in guard.decide("input", "Hello.").message
        assert "no answer in time" in asyncio.run(guard.adecide("input", "Hello.")).message
        own_house.go_on()
        # The late answers of before are nobody's.
        assert [guard.decide("tool_call", tool=Tool(n)).blocked for n in ("get_time", "drop")] == [False, True]
        assert guard.flush(10)
        assert account(own_house, guard.client_id)["missing"] in (None, [])


class Answering(threading.Thread):
    """Something that answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self.answer = answer
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with conn:
                conn.recv(65536)
                self.asked += 1
                conn.sendall(self.answer)

    def close(self) -> None:
        self._listener.close()


ANSWERS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}",
    "503 not durable": b'HTTP/1.1 503 X\r\nContent-Length: 33\r\n\r\n{"error":{"code":"not_durable"}} ',
    "429": b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no decision": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"decision": "allow"',
    "nothing": b"",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_decision_is_no_decision(name: str, tmp_path: Path) -> None:
    server = Answering(ANSWERS[name])
    guard = Guard(url=server.url, key="gbk_x", data=tmp_path)
    assert not guard.decide("input", "x").guarded
    with pytest.raises(GuardUnavailable):
        guard.decide("tool_call", tool=Tool("x"))
    assert not asyncio.run(guard.adecide("input", "x")).guarded
    guard.close(0)
    server.close()


def test_answers_of_every_framing_are_read(tmp_path: Path) -> None:
    body = b'{"decision":"flag","entry":"e-1"}'
    chunked = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:%d\r\n\r\n%s" % (len(body), body),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\nTrailer: x\r\n\r\n" % chunked,
        b"HTTP/1.0 200 OK\r\n\r\n" + body,
    ):
        server = Answering(answer)
        guard = Guard(url=server.url, key="gbk_x", data=tmp_path)
        assert guard.decide("input", "x").entry == "e-1"
        assert asyncio.run(guard.adecide("input", "x")).entry == "e-1"
        guard.close(0)
        server.close()


def test_the_breaker_opens_after_five_failures_and_lets_one_probe_through() -> None:
    time = [100.0]
    breaker = Breaker(lambda: time[0])
    for _ in range(4):
        assert breaker.enter()
        breaker.failed("x")
    time[0] += 11  # too long ago
    for _ in range(5):
        assert breaker.enter()
        breaker.failed("x")
    assert not breaker.enter()
    time[0] += 4.9
    assert not breaker.enter()
    time[0] += 0.2
    assert breaker.enter()
    assert not breaker.enter()  # one probe at a time
    breaker.failed("x")
    assert not breaker.enter()
    time[0] += 5.1
    assert breaker.enter()
    breaker.succeeded()
    assert breaker.enter()
    assert not breaker.open


def test_an_open_breaker_asks_nobody_and_closes_as_soon_as_the_server_is_seen(own_house: House) -> None:
    server = Answering(ANSWERS["500"])
    with Guard(url=server.url, key="gbk_x", data=own_house.folder / "a") as guard:
        for _ in range(50):
            assert not guard.decide("input", "x").guarded
        asked = [e for e in range(50) if server.asked > e]
        assert len(asked) < 50
        guard.close(0)
    server.close()
    own_house.kill()
    with Guard(**own_house.settings()) as guard:
        for _ in range(20):
            guard.decide("input", "x")
        own_house.start()
        assert guard.flush(10)  # the recorder reaches the server, so it is there
        assert guard.decide("input", "x").guarded
        guard.flush(10)
        assert account(own_house, guard.client_id)["missing"] in (None, [])


@pytest.mark.parametrize("seed", [1, 2])
def test_every_number_is_a_decision_or_told_whatever_happens_to_the_server(own_house: House, seed: int) -> None:
    """2,000 interactions from threads, asyncio and batches, while the server is killed
    and started again."""
    chance = random.Random(seed)
    guard = Guard(**own_house.settings())
    over = threading.Event()

    def trouble() -> None:
        for _ in range(4):
            over.wait(chance.random() * 0.5)
            own_house.kill()
            over.wait(chance.random() * 0.5)
            own_house.start()
            guard.flush(10)  # which sees that the server is back, so that it is asked again
        over.set()

    def ask(n: int) -> None:
        for i in range(125):
            with contextlib.suppress(GuardUnavailable):
                guard.decide("input", f"Hello {n} {i}.") if i % 2 else guard.decide("tool_call", tool=Tool("get_time"))
            over.wait(0.02)

    async def aask() -> None:
        async def one(n: int) -> None:
            for i in range(10):
                await guard.adecide("output", f"Hello {n} {i}.")
                await asyncio.sleep(0.2)

        await asyncio.gather(*(one(n) for n in range(50)))

    workers = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    workers.append(threading.Thread(target=lambda: asyncio.run(aask())))
    troubling = threading.Thread(target=trouble)
    for t in (troubling, *workers):
        t.start()
    for _ in range(10):
        guard.decide_batch(Interaction("input", f"batch {i}") for i in range(50))
        over.wait(0.2)
    for t in (troubling, *workers):
        t.join()
    assert guard.flush(30)
    guard.close()
    decided = {e["client_seq"] for e in own_house.entries("decision") if e.get("client") == guard.client_id}
    later = {e["client_seq"] for e in told(own_house, guard.client_id) if e.get("client_seq")}
    assert decided | later == set(range(1, 2001))
    assert decided
    assert later
    assert account(own_house, guard.client_id)["missing"] in (None, [])


CHILD = """
import json, os, signal, sys
from guardbook import Guard, Tool
guard = Guard(**json.loads(sys.argv[1]))
for i in range(5):
    guard.decide("input", "x")
print(guard.client_id, flush=True)
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def child(how: str, **settings: Any) -> str:
    settings["data"] = str(settings["data"])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(settings), how], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == (-signal.SIGKILL if how == "dies" else 0)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("how", ["dies", "ends"])
def test_what_a_process_leaves_behind_is_told_by_a_later_one(own_house: House, how: str) -> None:
    own_house.kill()
    client = child(how, **own_house.settings())
    spool = own_house.folder / "client" / "spool"
    [left] = spool.iterdir()
    assert left.stat().st_mode & 0o077 == 0
    assert own_house.key not in left.read_text()
    with left.open("a") as f:
        f.write('{"id": "torn')  # by a machine that died, too
    own_house.start()
    with Guard(**own_house.settings(key=own_house.key, agent="other")) as stranger:
        assert stranger.decide("input", "x").guarded
        stranger.flush(5)
    assert left.exists()
    with Guard(**own_house.settings()) as guard:
        assert guard.decide("input", "x").guarded
        for _ in range(100):
            if not left.exists():
                break
            threading.Event().wait(0.1)
    assert not left.exists()
    assert sorted(e["client_seq"] for e in told(own_house, client) if e["event"] == "unguarded") == [1, 2, 3, 4, 5]
    assert account(own_house, client)["missing"] in (None, [])
    assert not list(spool.iterdir())


def test_the_spool_of_a_living_process_is_left_alone(own_house: House) -> None:
    own_house.kill()
    living = Guard(**own_house.settings())
    living.decide("input", "x")
    own_house.start()
    with Guard(**own_house.settings()) as other:
        other.decide("input", "x")
        other.flush(5)
    assert living.flush(10)
    assert [e["client_seq"] for e in told(own_house, living.client_id) if e["event"] == "unguarded"] == [1]
    living.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[Recorder, list[bool]]]:
    away = [True]

    def reach() -> Target:
        if away[0]:
            raise Unreachable("away")
        return Target(NOWHERE, "gbk_x")

    made = Recorder(tmp_path / "spool", lambda: Origin("c-1", "s", "a", "k"), reach, lambda: None, limit=2000)
    yield made, away
    made.close(0)


def event(n: int) -> dict[str, Any]:
    return {"id": uuid7(), "seq": n, "ts": now(), "event": "unguarded", "reason": "x"}


def test_a_full_spool_counts_what_it_cannot_keep(recorder: tuple[Recorder, list[bool]], tmp_path: Path) -> None:
    made, _ = recorder
    for n in range(100):
        made.add(event(n))
    made.close(0)
    [file] = (tmp_path / "spool").iterdir()
    kept = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert file.stat().st_size < 2500
    assert [e["seq"] for e in kept[:-1]] == list(range(len(kept) - 1))
    assert kept[-1]["event"] == "dropped"
    assert kept[-1]["count"] + len(kept) - 1 == 100


def test_without_a_disk_events_wait_in_memory(house: House, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    port = free_port()
    with Guard(**house.settings(url=f"http://127.0.0.1:{port}", data=blocked)) as guard:
        for _ in range(3):
            assert not guard.decide("input", "x").guarded
        guard._recorder._reach = lambda: Target(house.url, house.key)
        assert guard.flush(10)
        assert [e["client_seq"] for e in told(house, guard.client_id) if e["event"] == "unguarded"] == [1, 2, 3]


def test_ids_are_of_version_7_and_in_order() -> None:
    ids = [uuid7() for _ in range(50)]
    assert all(i[14] == "7" and i[19] in "89ab" and len(i) == 36 for i in ids)
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)
    assert len(set(ids)) == 50


def test_nothing_waits_for_ever_at_the_end(tmp_path: Path) -> None:
    assert child("ends", url=NOWHERE, key="gbk_x", data=tmp_path)
    assert len(os.listdir(tmp_path / "spool")) == 1
