from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import pytest
from stage import TESTS, Stage, has_another, installed, open_stage

# The tests of a framework run where it is installed, in an environment of its own. MCP
# comes with others, too: its 2.x is tested at home, its last 1.x where that is brought.
collect_ignore = [test for module, test in TESTS.items() if not installed(module)]
if installed("mcp") and has_another("mcp") and version("mcp").startswith("2."):
    collect_ignore.append("test_mcp.py")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for all tests; each test has an agent of its own."""
    with open_stage(tmp_path_factory.mktemp("stage")) as opened:
        yield opened
