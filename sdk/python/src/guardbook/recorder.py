"""Telling the server later what could not be asked in time.

Events go to the spool first, and a thread of this process sends them, at least once,
as soon as the server can be reached.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from .line import Line
from .spool import Origin, Spool, orphans
from .wire import Target, Unreachable

__all__ = ["Recorder", "now", "uuid7"]

_log = logging.getLogger("guardbook")
_BUDGET = 5.0  # seconds for one call
_IN_MEMORY = 10_000  # events, when the disk cannot be written
_SOONEST, _SLOWEST = 0.1, 5.0  # seconds between attempts


class Recorder:
    """The spool of one client and the thread that empties it."""

    def __init__(
        self,
        folder: Path,
        origin: Callable[[], Origin],
        reach: Callable[[], Target],
        reached: Callable[[], None],
        limit: int = 64 << 20,
    ) -> None:
        self._limit = limit
        self._folder = folder
        self._origin = origin
        self._reach = reach
        self._reached = reached
        self._change = threading.Condition()
        self._spool: Spool | None = None
        self._memory: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._dropped_from = ""
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._asked = 0  # flushes that were asked for
        self._tried = 0  # flushes that had their attempt
        self._orphans = True  # whether to look for the spools of dead processes
        self._line: Line | None = None

    def add(self, event: dict[str, Any]) -> None:
        """Keeps an event. It never raises, and never waits for the network."""
        with self._change:
            self._keep(event)
            self._start()
            self._change.notify_all()

    def look(self) -> None:
        """Takes over, once, what processes that have died left behind."""
        if self._thread is None and self._orphans:
            with self._change:
                if any_file(self._folder, self._origin().client):
                    self._start()
                else:
                    self._orphans = False

    @property
    def pending(self) -> bool:
        """Whether this client has something that is not sent."""
        return bool(self._memory or self._dropped or (self._spool is not None and self._spool.pending))

    def flush(self, timeout: float) -> bool:
        """Tries at once to send everything, and says whether everything is sent."""
        with self._change:
            if not self.pending:
                return True
            self._asked += 1
            mine = self._asked
            self._start()
            self._change.notify_all()
            self._change.wait_for(lambda: self._tried >= mine, timeout)
            return not self.pending

    def close(self, timeout: float) -> None:
        """Flushes for at most timeout seconds and ends; the rest stays on disk."""
        self.flush(timeout)
        with self._change:
            self._stopping = True
            self._change.notify_all()
            if self._spool is not None:
                self._tell_dropped(reserve=True)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.5)
        with self._change:
            if self._spool is not None and (thread is None or not thread.is_alive()):
                try:
                    self._spool.sync()
                except OSError as err:
                    _log.warning("Guardbook: the spool in %s cannot be synced: %s", self._folder, err)
                self._spool.close()
                self._spool = None
            if self._memory:
                _log.error(
                    "Guardbook: %d events could be neither sent nor written to %s", len(self._memory), self._folder
                )

    def abandon(self) -> None:
        """In a forked child: forgets what is the parent's."""
        if self._spool is not None:
            self._spool.abandon()

    # What follows is called with the condition held.

    def _keep(self, event: dict[str, Any]) -> None:
        try:
            if self._spool is None:
                self._spool = Spool.create(self._folder, self._origin(), self._limit)
            while self._memory:
                self._spool.append(self._memory[0], reserve=True)
                self._memory.popleft()
            if not self._spool.append(event):
                self._drop(event)
        except OSError as err:
            if not self._memory:
                _log.warning(
                    "Guardbook: the spool in %s cannot be written (%s); events wait in memory", self._folder, err
                )
            if len(self._memory) < _IN_MEMORY:
                self._memory.append(event)
            else:
                self._drop(event)

    def _drop(self, event: dict[str, Any]) -> None:
        if not self._dropped:
            self._dropped_from = event["ts"]
            _log.error("Guardbook: the spool is full; events are counted, no longer kept")
        self._dropped += event.get("count", 1)

    def _tell_dropped(self, reserve: bool = False) -> None:
        if not self._dropped:
            return
        event = {
            "id": uuid7(),
            "ts": now(),
            "event": "dropped",
            "reason": "the spool was full",
            "from": self._dropped_from,
            "to": now(),
            "count": self._dropped,
        }
        if self._spool is not None and self._spool.append(event, reserve):
            self._dropped = 0

    def _start(self) -> None:
        if self._thread is None and not self._stopping:
            self._thread = threading.Thread(target=self._run, name="guardbook-recorder", daemon=True)
            self._thread.start()

    # What follows runs in the thread, without the condition.

    def _run(self) -> None:
        pause, due = _SOONEST, 0.0
        while True:
            with self._change:
                self._change.wait_for(partial(self._wanted, due), self._idle(due))
                asked, stopping = self._asked, self._stopping
            try:
                if self._spool is not None:
                    self._spool.sync()
                if not stopping and (asked > self._tried or time.monotonic() >= due):
                    self._work()
                    pause, due = _SOONEST, 0.0
            except Unreachable:
                due = time.monotonic() + pause
                pause = min(pause * 2, _SLOWEST)
            except Exception:  # the thread must live: it is what tells of failures
                _log.exception("Guardbook: events could not be sent")
                due = time.monotonic() + _SLOWEST
            with self._change:
                self._tried = asked
                self._change.notify_all()
                if stopping:
                    return

    def _wanted(self, due: float) -> bool:
        """Whether there is something to do; due is when the next attempt is."""
        if self._stopping or self._asked > self._tried or (self._spool is not None and self._spool.dirty):
            return True
        return (self.pending or self._orphans) and time.monotonic() >= due

    def _idle(self, due: float) -> float | None:
        """How long there is nothing to do if nothing happens."""
        return max(0.0, due - time.monotonic()) if self.pending or self._orphans else None

    def _work(self) -> None:
        if self._orphans:
            for origin, orphan in orphans(self._folder, self._origin()):
                try:
                    while orphan.pending:
                        self._send(origin.client, orphan)
                finally:
                    orphan.close()
            self._orphans = False
        with self._change:
            spool, own = self._spool, self._origin().client
        while spool is not None and spool.pending:
            spool.sync()
            self._send(own, spool)
            with self._change:
                self._tell_dropped()
        while self._memory:
            with self._change:
                waiting = [self._memory[i] for i in range(min(len(self._memory), 256))]
            self._post(own, waiting)
            with self._change:
                for event in waiting:
                    if self._memory and self._memory[0] is event:
                        self._memory.popleft()

    def _send(self, client: str, spool: Spool) -> None:
        events, end = spool.batch()
        if events:
            self._post(client, events)
        spool.sent(end)

    def _post(self, client: str, events: list[dict[str, Any]]) -> None:
        target = self._reach()
        if self._line is None or self._line.target != target:
            self._line = Line(target)
        body = json.dumps({"client": client, "events": events}, separators=(",", ":")).encode()
        answer = self._line.ask("/v1/record", body, _BUDGET)
        if answer.status == 200:
            self._reached()
            return
        if answer.status in (400, 413) and len(events) > 1:
            for event in events:
                self._post(client, [event])
            return
        if answer.status in (400, 413):
            # It would be refused for ever, and everything behind it would wait.
            said = answer.body.decode("utf-8", "replace")[:500]
            _log.error("Guardbook: the server refuses an event (%s): %s", said, json.dumps(events[0]))
            return
        raise Unreachable(f"the server answered {answer.status}")


def any_file(folder: Path, client: str) -> bool:
    """Whether another client's spool is there."""
    try:
        with os.scandir(folder) as entries:
            return any(e.name.endswith(".jsonl") and e.name != f"{client}.jsonl" for e in entries)
    except OSError:
        return False


def now() -> str:
    """The time as RFC 3339 has it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
