"""What could not be told yet, on disk: one append-only file a client.

The file's owner holds a lock on it for as long as it lives. A file whose lock can be
had belongs to a process that has died, and whoever gets the lock sends what is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Origin", "Spool", "orphans"]

_BATCH_EVENTS = 256
_BATCH_BYTES = 900_000  # the server takes 1 MiB a call


class Origin(NamedTuple):
    """Whose events these are, and for which server; the first line of the file."""

    client: str
    #: ``python:``, and the server's address or ``local:`` and the data folder.
    server: str
    agent: str
    #: A fingerprint of the agent's key: who has another key cannot send them.
    key: str

    def line(self) -> bytes:
        """The first line."""
        return json.dumps({"spool": 1, **self._asdict()}).encode() + b"\n"


class Spool:
    """Events of one client, in order, until they are sent."""

    def __init__(self, file: BinaryIO, path: Path, size: int, start: int, limit: int) -> None:
        self._lock = threading.Lock()
        self._file = file
        self._path = path
        self._limit = limit
        self._start = start  # of the first event
        self._size = size  # of the file
        self._sent = start  # everything before it is sent
        self._synced = size

    @classmethod
    def create(cls, folder: Path, origin: Origin, limit: int) -> Spool:
        """Makes the file, locks it and writes whose it is."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{origin.client}.jsonl"
        file = _open(path, os.O_CREAT)
        _lock(file)
        head = origin.line()
        size = os.fstat(file.fileno()).st_size  # 0, unless it was closed before the process's end
        if size == 0:
            file.write(head)
        return cls(file, path, max(size, len(head)), len(head), limit)

    @property
    def pending(self) -> bool:
        """Whether something is not sent."""
        return self._size > self._sent

    @property
    def dirty(self) -> bool:
        """Whether something is not on the disk."""
        return self._synced < self._size

    def append(self, event: dict[str, Any], reserve: bool = False) -> bool:
        """Writes an event; False when the spool is full. It survives the process at
        once, and the machine after the next sync."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._size + len(line) > self._limit and not reserve:
                return False
            self._file.write(line)
            self._size += len(line)
            return True

    def sync(self) -> None:
        """Puts on the disk what was appended."""
        with self._lock:
            if self._synced == self._size:
                return
            number, size = self._file.fileno(), self._size
            os.fsync(number)
            self._synced = max(self._synced, size)

    def batch(self) -> tuple[list[dict[str, Any]], int]:
        """The next events, and the place behind them for ``sent``."""
        with self._lock:
            self._file.seek(self._sent)
            data = self._file.read(_BATCH_BYTES)
        events: list[dict[str, Any]] = []
        end = self._sent
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n") or len(events) == _BATCH_EVENTS:
                break
            end += len(line)
            with contextlib.suppress(ValueError):  # a line that a dying process tore
                events.append(json.loads(line))
        if end == self._sent and len(data) < _BATCH_BYTES:
            end += len(data)  # the torn last line of a dead process
        return events, end

    def sent(self, end: int) -> None:
        """Marks everything before end as sent; an empty file shrinks."""
        with self._lock:
            self._sent = end
            if self._sent < self._size:
                return
            self._file.truncate(self._start)
            self._size = self._sent = self._synced = self._start

    def close(self) -> None:
        """Lets the file go, and removes it when nothing is left in it."""
        with self._lock:
            if self._file.closed:
                return
            empty = self._size == self._sent
            if empty and sys.platform != "win32":
                self._remove()  # while the lock is held, so that nobody takes it over
            self._file.close()
            if empty and sys.platform == "win32":
                self._remove()

    def abandon(self) -> None:
        """Closes this process's copy of a file that belongs to the parent process."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


def orphans(folder: Path, like: Origin) -> Iterator[tuple[Origin, Spool]]:
    """The spools of dead processes for the same server and key, locked one at a time."""
    try:
        paths = sorted(folder.glob("*.jsonl"))
    except OSError:
        return
    for path in paths:
        if path.stem == like.client:
            continue
        try:
            file = _open(path, 0)
        except OSError:
            continue
        try:
            _lock(file)
            head = file.readline()
            told = json.loads(head)
            origin = Origin(told["client"], told["server"], told["agent"], told["key"])
            size = os.fstat(file.fileno()).st_size
            ours = path.exists() and origin._replace(client=like.client) == like
        except (OSError, ValueError, KeyError, TypeError):
            # It lives, or is being made, or is none of ours.
            file.close()
            continue
        if not ours:
            file.close()
            continue
        yield origin, Spool(file, path, size, len(head), size)


def _open(path: Path, flags: int) -> BinaryIO:
    flags |= os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        # A byte far behind the end: Windows keeps others from reading a locked one.
        at = file.tell()
        file.seek(1 << 40)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(at)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
