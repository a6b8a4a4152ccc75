"""Settings: arguments first, then the environment, then the default."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from .errors import GuardError

__all__ = ["Settings", "load"]


@dataclass(frozen=True)
class Settings:
    """Everything that can be set."""

    #: The agent's name. Needed when no server is named; else the key says who it is.
    agent: str
    #: The server's address; empty: this user's own local server.
    url: str
    #: The agent's key (``gbk_...``).
    key: str
    #: ``allow`` or ``block``: texts when no decision can be had.
    on_unavailable: str
    #: ``block`` or ``allow``: tool calls when no decision can be had.
    on_unavailable_tools: str
    #: ``raise`` (GuardBlocked) or ``respond`` (the model client gets the refusal as an
    #: answer): what a wrapped model client does with a block.
    block: str
    #: Seconds that one decision may take.
    budget: float
    #: Folder of the local server and of the spool.
    data: Path

    @property
    def local(self) -> bool:
        """Whether this user's own server is used, and started when there is none."""
        return not self.url


def load(
    *,
    agent: str | None = None,
    url: str | None = None,
    key: str | None = None,
    on_unavailable: str | None = None,
    on_unavailable_tools: str | None = None,
    block: str | None = None,
    budget: float | None = None,
    data: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Finds every setting and checks it."""

    def pick(name: str, argument: str | None, default: str = "") -> tuple[str, str]:
        if argument is not None:
            return argument, name
        variable = "GUARDBOOK_" + name.upper()
        value = environ.get(variable, "")
        return (value, variable) if value else (default, name)

    def choose(name: str, argument: str | None, default: str, allowed: tuple[str, ...]) -> str:
        value, source = pick(name, argument, default)
        if value not in allowed:
            raise ValueError(f"{source} must be {' or '.join(allowed)}, not {value!r}")
        return value

    chosen_agent = pick("agent", agent)[0]
    chosen_url, source = pick("url", url)
    chosen_url = chosen_url.rstrip("/")
    if chosen_url:
        check_url(chosen_url, source)
    chosen_key, source = pick("key", key)
    if chosen_key and (not chosen_key.isascii() or not chosen_key.isprintable() or " " in chosen_key):
        raise ValueError(f"{source} is no agent's key: `guardbook agents create NAME` prints one (gbk_...)")
    if chosen_key.startswith("gbo_"):
        raise ValueError(f"{source} is an operator's token; an agent needs an agent's key (gbk_...)")
    if chosen_url and not chosen_key:
        raise GuardError(
            "GUARDBOOK_URL names a server, but there is no key for it: set GUARDBOOK_KEY to what "
            "`guardbook agents create NAME` prints"
        )
    if not chosen_url and not chosen_agent:
        raise GuardError('tell the agent\'s name: Guard(agent="billing-bot"), or set GUARDBOOK_AGENT')
    return Settings(
        agent=chosen_agent,
        url=chosen_url,
        key=chosen_key if chosen_url else "",
        on_unavailable=choose("on_unavailable", on_unavailable, "allow", ("allow", "block")),
        on_unavailable_tools=choose("on_unavailable_tools", on_unavailable_tools, "block", ("block", "allow")),
        block=choose("block", block, "raise", ("raise", "respond")),
        budget=_seconds("budget", budget, environ),
        data=(Path(data) if data is not None else data_folder(environ)).absolute(),
    )


def check_url(url: str, source: str = "url") -> SplitResult:
    """The address in parts, or a ValueError that says what is wrong with it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as err:
        raise ValueError(f"{source} is no address: {err}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{source} must look like http://127.0.0.1:8787, not {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{source} must be an address without user, query and fragment")
    return parts


def _seconds(name: str, argument: float | None, environ: Mapping[str, str]) -> float:
    source: str = name
    value: object = argument
    if argument is None:
        source = "GUARDBOOK_" + name.upper()
        value = environ.get(source, "") or 0.25
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0.001 <= seconds <= 60:
        raise ValueError(f"{source} must be seconds between 0.001 and 60, not {value!r}")
    return seconds


def data_folder(environ: Mapping[str, str] = os.environ, find_home: Callable[[], Path] = Path.home) -> Path:
    """The folder that the local server uses, by the same rule as the server."""
    if environ.get("GUARDBOOK_DATA"):
        return Path(environ["GUARDBOOK_DATA"])
    shared = environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(shared):
        return Path(shared) / "guardbook"
    if sys.platform == "darwin":
        return find_home() / "Library" / "Application Support" / "guardbook"
    return find_home() / ".local" / "share" / "guardbook"
