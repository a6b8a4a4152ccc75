from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage import Stage, open_stage

# A folder of tests runs where its framework is installed, in an environment of its own.
collect_ignore: list[str] = []
for _module, _test in (
    ("langchain", "test_langchain.py"),
    ("crewai", "test_crewai.py"),
    ("agents", "test_openai_agents.py"),
    ("claude_agent_sdk", "test_claude.py"),
    ("mcp", "test_mcp.py"),
):
    import importlib.util

    if importlib.util.find_spec(_module) is None:
        collect_ignore.append(_test)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for all tests; each test has an agent of its own."""
    with open_stage(tmp_path_factory.mktemp("stage")) as opened:
        yield opened
