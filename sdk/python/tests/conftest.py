from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guardbook import Guard
from house import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server that no test harms."""
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.close()


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[House]:
    """A server of one test, to kill."""
    made = House(tmp_path / "house")
    yield made
    made.close()


@pytest.fixture
def guard(house: House, tmp_path: Path) -> Iterator[Guard]:
    with Guard(**house.settings(data=tmp_path)) as made:
        yield made
