"""This user's own server: found, or started, by the ``guardbook`` binary."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import GuardError
from .wire import Target

__all__ = ["LocalServer", "find_binary", "run_local"]

_NAME = "guardbook.exe" if sys.platform == "win32" else "guardbook"
_START = 30.0  # seconds; a first start makes keys and loads the model


@dataclass(frozen=True)
class LocalServer:
    """What ``guardbook local`` tells."""

    target: Target
    agent: str
    started: bool
    dashboard: str


def packaged_binary() -> Path:
    """Where a platform wheel keeps the binary."""
    return Path(__file__).parent / "bin" / _NAME


def find_binary() -> str:
    """The binary: ``GUARDBOOK_BINARY``, then the package's own, then ``PATH``."""
    named = os.environ.get("GUARDBOOK_BINARY")
    if named:
        if not os.access(named, os.X_OK):
            raise GuardError(f"GUARDBOOK_BINARY is {named!r}, which cannot be run")
        return named
    own = packaged_binary()
    if os.access(own, os.X_OK):
        return str(own)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("guardbook", path=folder) if folder else None
        # The console script of this package would only run the binary that is not there.
        if found and not _is_script(found):
            return found
    raise GuardError(
        "this installation carries no guardbook binary, and there is none on PATH: install a platform "
        "wheel of guardbook, or set GUARDBOOK_BINARY to the binary, or GUARDBOOK_URL to a running server"
    )


def _is_script(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            return f.read(2) == b"#!" or (os.name == "nt" and os.path.getsize(path) < 1 << 20)
    except OSError:
        return True


def run_local(agent: str, data: Path) -> LocalServer:
    """Makes sure that the server runs and knows the agent."""
    import subprocess

    binary = find_binary()
    command = [binary, "local", "--data", str(data), "--agent", agent, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_START, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise GuardError(f"the local guardbook server did not start within {_START:.0f} seconds") from None
    except OSError as err:
        raise GuardError(f"the guardbook binary {binary} cannot be run: {err.strerror or err}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"
        raise GuardError(f"the local guardbook server cannot be used: {said}")
    try:
        told: dict[str, Any] = json.loads(done.stdout)
        target = Target(told["url"].rstrip("/"), told["key"])
    except (ValueError, KeyError, AttributeError, TypeError):
        raise GuardError(
            f"{binary} is no guardbook that this SDK knows: `guardbook local` tells something else"
        ) from None
    return LocalServer(
        target=target,
        agent=str(told.get("agent", agent)),
        started=bool(told.get("started")),
        dashboard=str(told.get("dashboard") or target.url),
    )
