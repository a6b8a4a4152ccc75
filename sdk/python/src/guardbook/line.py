"""Asking the guard from threads: a pool of kept connections."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from .wire import Answer, AnswerReader, Target, Unanswered, Unreachable

if TYPE_CHECKING:
    import ssl

__all__ = ["Line", "reason_of"]

_KEPT = 16  # connections that wait for the next question


class _Stale(Exception):
    """A kept connection had been closed by the other side."""


class Line:
    """Connections to one server, for any number of threads."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._heads: dict[str, bytes] = {}

    def ask(self, path: str, body: bytes, budget: float) -> Answer:
        """Sends a POST and waits for the answer, for at most budget seconds in all."""
        deadline = time.monotonic() + budget
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self.target.post(path)
        message = head + str(len(body)).encode() + b"\r\n\r\n" + body
        with self._lock:
            conn = self._idle.pop() if self._idle else None
        if conn is not None:
            try:
                return self._exchange(conn, message, deadline, kept=True)
            except _Stale:
                self.close()  # the others are as old
        return self._exchange(self._connect(deadline), message, deadline, kept=False)

    def close(self) -> None:
        """Closes the connections that wait. The line can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    def _connect(self, deadline: float) -> socket.socket:
        try:
            conn = socket.create_connection(self.target.address, _left(deadline))
            try:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.target.secure:
                    conn = self._secure(conn)
            except BaseException:
                conn.close()
                raise
            return conn
        except TimeoutError:
            raise Unreachable("no connection in time") from None
        except OSError as err:
            raise Unreachable(reason_of(err)) from None

    def _secure(self, conn: socket.socket) -> socket.socket:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls.wrap_socket(conn, server_hostname=self.target.address[0])

    def _exchange(self, conn: socket.socket, message: bytes, deadline: float, kept: bool) -> Answer:
        reader = AnswerReader()
        answer: Answer | None = None
        try:
            conn.settimeout(_left(deadline))
            conn.sendall(message)
            while answer is None:
                data = conn.recv(65536)
                if data:
                    answer = reader.feed(data)
                    if answer is None:
                        conn.settimeout(_left(deadline))
                elif kept and not reader.began:
                    raise _Stale
                else:
                    answer = reader.end()
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        except OSError as err:
            if kept and not reader.began:
                raise _Stale from None
            raise Unanswered(reason_of(err)) from None
        finally:
            # Also after a KeyboardInterrupt: a connection with half an exchange on it
            # would give its answer to the next question.
            if answer is None or not answer.keep or not self._keep(conn):
                conn.close()
        return answer

    def _keep(self, conn: socket.socket) -> bool:
        with self._lock:
            if len(self._idle) >= _KEPT:
                return False
            self._idle.append(conn)
            return True


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def reason_of(err: OSError) -> str:
    """A few words for the record, the same on every platform where they can be."""
    if isinstance(err, ConnectionRefusedError):
        return "connection refused"
    if isinstance(err, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return "connection reset"
    if isinstance(err, socket.gaierror):
        return "the server's name is not known"
    return (err.strerror or type(err).__name__).lower()[:200]
