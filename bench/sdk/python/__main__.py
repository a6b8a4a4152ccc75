"""What the Python SDK costs. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "sdk" / "python" / "src"), str(ROOT / "sdk" / "python" / "tests")]

from guardbook import Guard, GuardUnavailable, Tool  # noqa: E402
from house import POLICY, House, plan  # noqa: E402

TOOL = Tool("get_time", {"zone": "Europe/Paris"})
TEXT = "Please tell me which of the jackets keeps dry on long days in the rain, and what it costs. " * 4


def row(what: str, *values: str) -> None:
    print(f"{what:<58}" + "".join(f"{v:>13}" for v in values), flush=True)


def ms(times: list[float], part: float) -> str:
    times = sorted(times)
    return f"{times[min(len(times) - 1, int(len(times) * part))] * 1e3:.2f} ms"


def timed(n: int, work: Callable[[], Any]) -> list[float]:
    out = []
    for _ in range(n):
        begun = time.perf_counter()
        work()
        out.append(time.perf_counter() - begun)
    return out


async def atimed(n: int, work: Callable[[], Any]) -> list[float]:
    out = []
    for _ in range(n):
        begun = time.perf_counter()
        await work()
        out.append(time.perf_counter() - begun)
    return out


def decisions(house: House, name: str, n: int) -> None:
    with Guard(**house.settings()) as guard:
        for _ in range(50):
            guard.decide("tool_call", tool=TOOL)
        serial = iter(range(10**9))
        for what, work in (
            ("tool call", lambda: guard.decide("tool_call", tool=TOOL)),
            ("text of 360 bytes, new", lambda: guard.decide("input", f"{next(serial)} {TEXT}")),
            ("text of 360 bytes, seen before", lambda: guard.decide("input", TEXT)),
        ):
            times = timed(n, work)
            row(f"decision, {name}: {what}", ms(times, 0.5), ms(times, 0.99))

        async def alone() -> list[float]:
            await guard.adecide("tool_call", tool=TOOL)
            return await atimed(n, lambda: guard.adecide("tool_call", tool=TOOL))

        times = asyncio.run(alone())
        row(f"decision, {name}: tool call, asyncio", ms(times, 0.5), ms(times, 0.99))

        everything: list[float] = []
        threads = [
            threading.Thread(
                target=lambda: everything.extend(timed(n // 8, lambda: guard.decide("tool_call", tool=TOOL)))
            )
            for _ in range(8)
        ]
        begun = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        rate = len(everything) / (time.perf_counter() - begun)
        row(f"decision, {name}: tool call, 8 threads", ms(everything, 0.5), ms(everything, 0.99), f"{rate:.0f}/s")


def model_calls(house: House, n: int) -> None:
    import anthropic
    import openai

    model = plan({"text": "The Alpine jacket keeps dry on long days."})
    ask: Any = [{"role": "user", "content": TEXT}]
    with Guard(**house.settings()) as guard:
        gpt = openai.OpenAI(base_url=house.provider + "/openai/v1", api_key="x")
        claude = anthropic.Anthropic(base_url=house.provider + "/anthropic", api_key="x")
        agpt = openai.AsyncOpenAI(base_url=house.provider + "/openai/v1", api_key="x")

        def chat(client: Any) -> Any:
            return client.chat.completions.create(model=model, messages=ask)

        def streamed(client: Any) -> None:
            for _ in client.chat.completions.create(model=model, messages=ask, stream=True):
                pass

        def messages(client: Any) -> Any:
            return client.messages.create(model=model, max_tokens=100, messages=ask)

        for what, plain, work in (
            (f"OpenAI {openai.__version__}", gpt, chat),
            (f"OpenAI {openai.__version__}, streamed", gpt, streamed),
            (f"Anthropic {anthropic.__version__}", claude, messages),
        ):
            guarded = guard.wrap(plain)
            direct, through = [], []
            for _ in range(n):  # in turns, so that both see the same machine
                direct += timed(1, partial(work, plain))
                through += timed(1, partial(work, guarded))
            told(what, direct[10:], through[10:])

        async def both() -> tuple[list[float], list[float]]:
            guarded = guard.wrap(agpt)
            direct, through = [], []
            for _ in range(n):
                direct += await atimed(1, lambda: chat(agpt))
                through += await atimed(1, lambda: chat(guarded))
            return direct[10:], through[10:]

        told(f"AsyncOpenAI {openai.__version__}", *asyncio.run(both()))


def told(what: str, direct: list[float], through: list[float]) -> None:
    added = statistics.median(through) - statistics.median(direct)
    row(f"model call, direct: {what}", ms(direct, 0.5), ms(direct, 0.99))
    row(f"model call, guarded: {what}", ms(through, 0.5), ms(through, 0.99), f"+{added * 1e3:.2f} ms")


def imports() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk" / "python" / "src")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(code: str) -> float:
        command = [sys.executable, "-c", code]
        return statistics.median(timed(15, lambda: subprocess.run(command, env=env, check=True)))

    run("import guardbook")  # which writes its bytecode
    empty = run("pass")
    row("import guardbook", f"{(run('import guardbook') - empty) * 1e3:.1f} ms")
    row("import openai, to compare", f"{(run('import openai') - empty) * 1e3:.0f} ms")


def killed(folder: Path, n: int) -> None:
    house = House(folder)
    guard = Guard(**house.settings())
    over = threading.Event()
    went: collections.Counter[str] = collections.Counter()
    lock = threading.Lock()
    workers = 8

    def ask() -> None:
        for i in range(n // workers):
            try:
                passed = guard.decide("tool_call", tool=TOOL) if i % 2 else guard.decide("input", f"Hello {i}.")
                what = "decided" if passed.guarded else "passed without a decision"
            except GuardUnavailable:
                what = "refused without a decision"
            with lock:
                went[what] += 1
            if what != "decided":
                over.wait(0.005)  # an agent does something else, too

    threads = [threading.Thread(target=ask) for _ in range(workers)]
    begun = time.perf_counter()
    for t in threads:
        t.start()
    while sum(went.values()) < n * 0.3:
        over.wait(0.01)
    house.kill()
    over.wait(1)
    house.start()
    for t in threads:
        t.join()
    took = time.perf_counter() - begun
    guard.flush(30)
    guard.close()
    decided = {e["client_seq"] for e in house.entries("decision") if e.get("client") == guard.client_id}
    later: collections.Counter[str] = collections.Counter()
    numbers = set()
    for e in house.entries("client"):
        if e["client"] == guard.client_id:
            later[e["event"]] += 1
            numbers.add(e.get("client_seq", 0))
    asked = sum(went.values())
    lost = set(range(1, asked + 1)) - decided - numbers
    row(f"killed server: interactions, in {took:.1f} s", str(asked))
    for what, count in sorted(went.items()):
        row(f"killed server: {what}", str(count))
    row("killed server: decisions in the book", str(len(decided)))
    for what, count in sorted(later.items()):
        row(f"killed server: told later, {what}", str(count))
    row("killed server: numbers that are neither (lost)", str(len(lost)))
    row("killed server: gaps that the server shows", gaps(house, guard))
    house.close()


def gaps(house: House, guard: Guard) -> str:
    for line in house.cli("clients", "--json").splitlines():
        account = json.loads(line)
        if account["client"] == guard.client_id:
            return str(len(account["missing"] or []))
    return "unknown client"


def wheel(path: str) -> None:
    for file in [Path(path)] if path else sorted((ROOT / "sdk" / "python" / "dist").glob("*.whl")):
        row(f"wheel {file.name.removeprefix('guardbook-')[:50]}", f"{file.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=2000, help="decisions a row; a tenth of it as model calls")
    parser.add_argument("--interactions", type=int, default=10_000, help="while the server is killed")
    parser.add_argument("--wheel", default="", help="a wheel to weigh; else those in sdk/python/dist")
    options = parser.parse_args()
    logging.getLogger("guardbook").setLevel(logging.CRITICAL)
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores\n")
    row("", "p50", "p99", "")
    with tempfile.TemporaryDirectory() as folder:
        for durability in ("strict", "balanced"):
            with contextlib.closing(House(Path(folder) / durability, POLICY, "--durability", durability)) as house:
                decisions(house, durability, options.n)
                if durability == "strict":
                    model_calls(house, max(20, options.n // 10))
        imports()
        wheel(options.wheel)
        killed(Path(folder) / "killed", options.interactions)


if __name__ == "__main__":
    main()
