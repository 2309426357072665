"""Settings for all tests: figures without a screen, the same examples each time, and `--rewrite` for transcripts."""

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
    """`pytest --rewrite` writes what the code does now into the transcripts; the difference is then read in review."""
    parser.addoption("--rewrite", action="store_true", help="write transcripts anew instead of comparing")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether a transcript that differs is to be written anew."""
    return bool(request.config.getoption("--rewrite"))
