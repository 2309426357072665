"""Settings for all tests: figures without a screen, the same examples each time, `--rewrite` for expected outputs."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# A deadline would measure the machine, not the code. `--hypothesis-profile=search` looks for new examples.
settings.register_profile("search", deadline=None, print_blob=True)
settings.register_profile("reproducible", parent=settings.get_profile("search"), derandomize=True)
settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    """One flag for everything that compares with a file."""
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write expected outputs anew; commit the diff only if you can say why it changed",
    )


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether expected outputs are to be written instead of compared."""
    return bool(request.config.getoption("--rewrite"))
