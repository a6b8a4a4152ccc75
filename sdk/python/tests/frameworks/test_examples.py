"""Every example whose framework is here, as a person runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage import BINARY

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDED = {
    "langchain": "langchain",
    "openai_agents": "agents",
    "crewai": "crewai",
    "claude": "claude_agent_sdk",
    "mcp": "mcp",
    "openai": "openai",
}


@pytest.mark.parametrize("name", [n for n, module in NEEDED.items() if importlib.util.find_spec(module) is not None])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
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
