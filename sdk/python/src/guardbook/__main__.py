"""The console script ``guardbook``: runs the binary that the package carries."""

from __future__ import annotations

import os
import sys

from .errors import GuardError
from .local import find_binary

__all__ = ["main"]


def main() -> None:
    """Becomes the binary, with this process's arguments."""
    try:
        binary = find_binary()
    except GuardError as err:
        sys.exit(f"guardbook: {err}")
    if sys.platform == "win32":  # which cannot replace a process
        import subprocess

        sys.exit(subprocess.run([binary, *sys.argv[1:]]).returncode)
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
