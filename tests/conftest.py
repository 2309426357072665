"""Settings for all tests: figures without a screen, the same examples each time, `--rewrite` for expected outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

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


@pytest.fixture
def lesser_processor() -> Callable[..., str]:
    """What a program prints, given some arguments, where libraries are told that the processor has neither long vectors
    nor fused multiplication: their logarithms have other last bits there."""
    if sys.platform != "linux":
        pytest.skip("libraries can be told what a processor cannot do on Linux")
    less = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F,-AVX2_Usable,-FMA_Usable",
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
    }

    def printed(program: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
        done = subprocess.run(
            command, env={**os.environ, **less}, capture_output=True, text=True, timeout=100
        )
        assert not done.returncode, done.stderr
        return done.stdout

    return printed
