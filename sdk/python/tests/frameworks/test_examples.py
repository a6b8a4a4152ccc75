"""Every example whose framework is here, as a person runs it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage import BINARY, has_another

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The newest environment of each example, and the package that shows which one this is.
HOME = {
    "langchain": ("langchain-newest", "langchain"),
    "openai_agents": ("openai-agents-newest", "openai-agents"),
    "openai": ("openai-agents-newest", "openai-agents"),
    "crewai": ("crewai-newest", "crewai"),
    "claude": ("claude-newest", "claude-agent-sdk"),
    "mcp": ("mcp-newest", "mcp"),
}


def at_home(name: str) -> bool:
    pins, package = HOME[name]
    listed = (Path(__file__).parent / "requirements" / f"{pins}.txt").read_text(encoding="utf-8").split()
    try:
        here = f"{package}=={importlib.metadata.version(package)}" in listed
    except importlib.metadata.PackageNotFoundError:
        return False
    return here and (package != "mcp" or not has_another("mcp"))


def run_example(name: str, tmp_path: Path) -> None:
    environ = {
        k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k not in ("GUARDBOOK_URL", "MODEL")
    }
    source = str(Path(__file__).parents[2] / "src")
    environ |= {
        "GUARDBOOK_BINARY": BINARY,
        "PYTHONPATH": source,
        "TMPDIR": str(tmp_path),
        "IS_SANDBOX": "1",
        "CREWAI_TESTING": "true",
        "CREWAI_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name / "main.py")],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "SELECT * FROM billing" not in "".join(line for line in done.stdout.splitlines() if "tool runs" in line)
    if name == "openai":
        assert "guard: Blocked by policy clinic" in done.stdout
    elif name == "mcp":
        assert "tools: ['read_document', 'query_database']" in done.stdout
        assert "starts_at=2026-03-09T10:30" in done.stdout
    else:
        assert "Dr. Okafor." in done.stdout
        assert "tool runs: query_database 'SELECT starts_at" in done.stdout


HERE = [name for name in HOME if at_home(name)]
if HERE:
    test_an_example_runs = pytest.mark.parametrize("name", HERE)(run_example)
