"""Who is speaking: session, user, delegating agent and task of the running code.

They are kept in a context variable, so that threads and asyncio tasks each see their
own. Frameworks copy the context into the threads that run their tools.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["Scope", "current", "entered", "nameable"]


@dataclass(frozen=True)
class Scope:
    """What ``with guard.session(...)`` sets."""

    session: str | None = None
    user: str | None = None
    parent: str | None = None
    context: str | None = None


_EMPTY = Scope()
_scope: contextvars.ContextVar[Scope] = contextvars.ContextVar("guardbook_scope", default=_EMPTY)


def current() -> Scope:
    """The scope of the running code."""
    return _scope.get()


@contextlib.contextmanager
def entered(session: str | None, user: str | None, parent: str | None, context: str | None) -> Iterator[Scope]:
    """Sets what is given, keeps the rest, and restores all of it at the end."""
    given = {
        name: checked(name, value)
        for name, value in (("session", session), ("user", user), ("parent", parent))
        if value is not None
    }
    if context is not None:
        given["context"] = context
    scope = replace(current(), **given)
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        # A generator that is closed from another task cannot restore what was never
        # set there.
        with contextlib.suppress(ValueError):
            _scope.reset(token)


def nameable(text: str) -> bool:
    """Whether text can stand in a header and in an entry as the name of something."""
    return bool(text) and text.isprintable() and len(text.encode("utf-8", "replace")) <= 256


def checked(name: str, value: str) -> str:
    """The value, or a ValueError that says what is wrong with it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not nameable(value):
        raise ValueError(f"{name} must be printable text of 1 to 256 bytes")
    return value


def named(value: object) -> str:
    """A framework's own id as one that can be sent: as it is where possible, else its
    hash, which stays the same for the same id."""
    text = str(value)
    if nameable(text):
        return text
    import hashlib

    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
