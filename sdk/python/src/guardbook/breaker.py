"""The circuit breaker: a server that is away is not asked again and again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Breaker"]

_FAILURES = 5
_WITHIN = 10.0
_OPEN = 5.0


class Breaker:
    """Opens after 5 failures in 10 seconds, for 5 seconds; then one probe decides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: deque[float] = deque(maxlen=_FAILURES)
        self._opened = 0.0
        self._probing = 0.0
        #: Why it is open.
        self.reason = ""

    @property
    def open(self) -> bool:
        """Whether questions are not asked, but for a probe."""
        return self._opened > 0

    @property
    def suspicious(self) -> bool:
        """Whether the last question had no answer."""
        return bool(self._failures or self._opened)

    def enter(self) -> bool:
        """Whether to ask now."""
        if not self._opened:
            return True
        with self._lock:
            now = self._clock()
            if not self._opened:
                return True
            if now - self._opened < _OPEN or (self._probing and now - self._probing < _OPEN):
                return False
            self._probing = now
            return True

    def succeeded(self) -> None:
        """Tells it of an answer."""
        if not self._opened and not self._failures:
            return
        with self._lock:
            self._failures.clear()
            self._opened = self._probing = 0.0

    def failed(self, reason: str) -> None:
        """Tells it of a question without an answer."""
        with self._lock:
            now = self._clock()
            self.reason = reason
            self._failures.append(now)
            if self._opened:
                self._opened, self._probing = now, 0.0
            elif len(self._failures) == _FAILURES and now - self._failures[0] <= _WITHIN:
                self._opened = now
