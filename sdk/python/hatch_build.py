"""Puts the ``guardbook`` binary into the wheel, as a wheel of one platform.

The binary is, in this order:

- the file that GUARDBOOK_WHEEL_BINARY names;
- built by Go from the checkout that this folder is in, for GUARDBOOK_WHEEL_TARGET
  (``linux/arm64``, ``darwin/amd64``, ``windows/amd64``, ...), or for this machine.

Away from a checkout (a wheel built from the sdist alone) there is nothing to build from:
the wheel is one for any platform, without the binary, and the SDK looks for one on PATH.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TAGS = {
    # Without cgo the binary needs no C library, so that musl is as good as glibc.
    "linux/amd64": "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
    "linux/arm64": "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
    "darwin/amd64": "macosx_13_0_x86_64",
    "darwin/arm64": "macosx_13_0_arm64",
    "windows/amd64": "win_amd64",
    "windows/arm64": "win_arm64",
}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class BinaryHook(BuildHookInterface):
    """Runs for wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        target = os.environ.get("GUARDBOOK_WHEEL_TARGET") or here()
        if target not in _TAGS:
            raise SystemExit(f"GUARDBOOK_WHEEL_TARGET must be one of {', '.join(_TAGS)}, not {target!r}")
        named = os.environ.get("GUARDBOOK_WHEEL_BINARY")
        if named:
            binary = Path(named).resolve()
            if not binary.is_file():
                raise SystemExit(f"GUARDBOOK_WHEEL_BINARY is {named!r}, which is no file")
        else:
            found = checkout(Path(self.root))
            if found is None:
                self.app.display_warning(
                    "There is no checkout of Guardbook here to build the binary from: this wheel carries none."
                )
                return
            binary = build(found, target, str(self.metadata.version))
        name = "guardbook.exe" if target.startswith("windows/") else "guardbook"
        build_data["force_include"][str(binary)] = f"guardbook/bin/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_TAGS[target]}"


def here() -> str:
    """This machine as Go names it."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{_MACHINES.get(machine, machine)}"


def checkout(root: Path) -> Path | None:
    """The checkout around root. A build front end unpacks the sdist elsewhere and builds
    the wheel there; then it is the one around the folder that it was called from."""
    for start in (root, Path(os.environ.get("PWD") or root)):
        for folder in (start, *start.parents):
            module = folder / "go.mod"
            if module.is_file() and (folder / "cmd" / "guardbook" / "main.go").is_file():
                return folder
    return None


def build(source: Path, target: str, version: str) -> Path:
    """Builds the binary, with its dashboard."""
    if shutil.which("go") is None:
        raise SystemExit(
            "Go is needed to build the binary that the wheel carries: install Go, or name a built one in "
            "GUARDBOOK_WHEEL_BINARY"
        )
    if not (source / "dashboard" / "dist" / "index.html").is_file():
        subprocess.run(["make", "dashboard"], cwd=source, check=True)
    system, machine = target.split("/")
    binary = Path(tempfile.mkdtemp(prefix="guardbook-wheel-")) / "guardbook"
    flags = f"-s -w -X main.version={version}"
    command = ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(binary), "./cmd/guardbook"]
    environ = {**os.environ, "CGO_ENABLED": "0", "GOOS": system, "GOARCH": machine}
    environ.setdefault("GOTOOLCHAIN", "go1.27.3")
    subprocess.run(command, cwd=source, env=environ, check=True)
    binary.chmod(0o755)
    return binary
