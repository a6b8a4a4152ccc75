"""Asking the guard from asyncio: kept connections for each event loop.

A question that is cancelled takes its connection with it: the answer that still comes
must not be taken for the next question's.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING

from .line import reason_of
from .wire import Answer, AnswerReader, Target, Unanswered, Unreachable

if TYPE_CHECKING:
    import ssl

__all__ = ["AsyncLine"]

_KEPT = 16


class _Stale(Exception):
    """A kept connection had been closed by the other side."""


class _Conversation(asyncio.Protocol):
    """One connection; at most one question at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.open = False
        self._reader: AnswerReader | None = None
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        try:
            answer = self._reader.feed(data)
        except Unreachable as err:
            self._answer.set_exception(err)
            return
        if answer is not None:
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._reader is None or self._answer is None or self._answer.done():
            return
        if not self._reader.began:
            self._answer.set_exception(_Stale())
            return
        try:
            self._answer.set_result(self._reader.end())
        except Unreachable as err:
            self._answer.set_exception(err)

    async def exchange(self, message: bytes, deadline: float) -> Answer:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        self._reader = AnswerReader()
        future: asyncio.Future[Answer] = loop.create_future()
        self._answer = future

        def too_late() -> None:
            if not future.done():
                future.set_exception(Unanswered("no answer in time"))

        timer = loop.call_later(max(0.0, deadline - time.monotonic()), too_late)
        try:
            self.transport.write(message)
            return await future
        finally:
            timer.cancel()
            self._reader = self._answer = None

    def close(self) -> None:
        self.open = False
        if self.transport is not None:
            self.transport.abort()


class AsyncLine:
    """Connections to one server, for any number of event loops."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._idle: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Conversation]]
        self._idle = weakref.WeakKeyDictionary()
        self._tls: ssl.SSLContext | None = None
        self._heads: dict[str, bytes] = {}

    async def ask(self, path: str, body: bytes, budget: float) -> Answer:
        """Sends a POST and waits for the answer, for at most budget seconds in all."""
        deadline = time.monotonic() + budget
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self.target.post(path)
        message = head + str(len(body)).encode() + b"\r\n\r\n" + body
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        while idle:
            conn = idle.pop()
            if not conn.open:
                continue
            try:
                return await self._exchange(conn, message, deadline, idle)
            except _Stale:
                continue
        conn = await self._connect(deadline)
        try:
            return await self._exchange(conn, message, deadline, idle)
        except _Stale:
            raise Unanswered("connection reset") from None

    async def _exchange(
        self, conn: _Conversation, message: bytes, deadline: float, idle: list[_Conversation]
    ) -> Answer:
        answer: Answer | None = None
        try:
            answer = await conn.exchange(message, deadline)
        finally:
            if answer is not None and answer.keep and conn.open and len(idle) < _KEPT:
                idle.append(conn)
            else:
                conn.close()
        return answer

    async def _connect(self, deadline: float) -> _Conversation:
        host, port = self.target.address
        if self.target.secure and self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        making = asyncio.get_running_loop().create_connection(_Conversation, host, port, ssl=self._tls)
        try:
            _, conn = await asyncio.wait_for(making, max(0.001, deadline - time.monotonic()))
        except (TimeoutError, asyncio.TimeoutError):
            raise Unreachable("no connection in time") from None
        except OSError as err:
            raise Unreachable(reason_of(err)) from None
        return conn

    def close(self) -> None:
        """Closes the connections that wait, of the loops that still run here."""
        idle, self._idle = self._idle, weakref.WeakKeyDictionary()
        for loop, conns in list(idle.items()):
            for conn in conns:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(conn.close)
