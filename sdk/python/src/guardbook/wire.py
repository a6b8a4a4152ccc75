"""HTTP/1.1 as far as asking the guard needs it: one POST, one JSON answer, kept
connections. It does no input or output itself, so that threads and asyncio share it.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Answer", "AnswerReader", "Target", "Unanswered", "Unreachable"]

#: No answer of the guard is larger than what one may ask about, and its findings.
_ANSWER_LIMIT = 64 << 20


class Unreachable(Exception):
    """No answer was had; the reason is a few words for the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unanswered(Unreachable):
    """The guard was asked, and no answer came in time."""


class Answer(NamedTuple):
    """A whole HTTP answer."""

    status: int
    body: bytes
    #: Whether the connection can be used again.
    keep: bool


class Target(NamedTuple):
    """A server, and the key that opens it."""

    url: str
    key: str

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.url.startswith("https:")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    @property
    def prefix(self) -> str:
        """Path in front of the server's own paths, when it is behind a proxy."""
        return urlsplit(self.url).path

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        host = self.address[0]
        return host in ("localhost", "::1") or host.startswith("127.")

    def post(self, path: str) -> bytes:
        """The head of a POST, up to and without the body's length."""
        parts = urlsplit(self.url)
        return (
            f"POST {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"X-Guardbook-Key: {self.key}\r\nContent-Type: application/json\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: guardbook-python\r\nContent-Length: "
        ).encode("ascii", "replace")


class AnswerReader:
    """Reads one answer from bytes as they come."""

    def __init__(self) -> None:
        self._data = b""
        self._body_at = -1
        self._status = 0
        self._length = -1  # -1: until the connection ends
        self._chunked = False
        self._keep = True

    @property
    def began(self) -> bool:
        """Whether any byte has come."""
        return bool(self._data)

    def feed(self, data: bytes) -> Answer | None:
        """Takes bytes; gives the answer when it is whole."""
        self._data = self._data + data if self._data else data
        if len(self._data) > _ANSWER_LIMIT:
            raise Unreachable("the answer is too long")
        while self._body_at < 0:
            if not self._head():
                return None
        if self._chunked:
            return self._chunks()
        if self._length < 0 or len(self._data) - self._body_at < self._length:
            return None
        body = self._data[self._body_at : self._body_at + self._length]
        exact = len(self._data) - self._body_at == self._length
        return Answer(self._status, body, self._keep and exact)

    def end(self) -> Answer:
        """The answer when the connection ends here."""
        if self._body_at >= 0 and self._length < 0 and not self._chunked:
            return Answer(self._status, self._data[self._body_at :], False)
        raise Unanswered("the connection was closed before the answer was whole")

    def _head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._data[:end].split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            raise Unreachable("what answers there does not speak HTTP/1.1")
        status = int(code)
        if 100 <= status < 200:  # interim; the answer follows
            self._data = self._data[end + 4 :]
            return bool(self._data)
        self._keep = version == b"HTTP/1.1"
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            if name == b"content-length" and value.isdigit():
                self._length = int(value)
            elif name == b"transfer-encoding":
                self._chunked = value.lower().endswith(b"chunked")
            elif name == b"connection" and b"close" in value.lower():
                self._keep = False
        self._status, self._body_at = status, end + 4
        if status in (204, 304):
            self._length = 0
        return True

    def _chunks(self) -> Answer | None:
        parts: list[bytes] = []
        at = self._body_at
        while True:
            end = self._data.find(b"\r\n", at)
            if end < 0:
                return None
            try:
                size = int(self._data[at:end].split(b";")[0], 16)
            except ValueError:
                raise Unreachable("the answer's chunks cannot be read") from None
            at = end + 2
            if size == 0:
                closing = self._data.find(b"\r\n", at)
                while closing > at:  # trailers
                    at = closing + 2
                    closing = self._data.find(b"\r\n", at)
                if closing < 0:
                    return None
                return Answer(self._status, b"".join(parts), self._keep)
            if len(self._data) < at + size + 2:
                return None
            parts.append(self._data[at : at + size])
            at += size + 2
