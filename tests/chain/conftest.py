"""Towns, and the modules beside the tests importable by their plain names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from town import Town


@pytest.fixture(scope="session")
def make_town() -> type[Town]:
    """Towns for property tests, which make many and check them themselves."""
    return importlib.import_module("town").Town


@pytest.fixture
def new_town(make_town: type[Town]) -> Iterator[Callable[..., Town]]:
    """Makes towns with parameters of the test's choice; every one is checked in full at the end."""
    made: list[Town] = []

    def make(**parameters: Any) -> Town:
        made.append(make_town(**parameters))
        return made[-1]

    yield make
    for town in made:
        town.everything_holds()


@pytest.fixture
def town(new_town: Callable[..., Town]) -> Town:
    """A town with the usual parameters."""
    return new_town()
