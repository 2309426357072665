"""The command as a test calls it, and a scenario that is over at once."""

from __future__ import annotations

import pytest
from tradebft.lab import cli

SMALL = {
    "workload.transactions": 60,
    "network.nodes": 4,
    "network.links": '{ model = "normal", mean = "10 ms", std = "1 ms" }',
}


def left(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    """Exit code, standard output and standard error of `tradebft` with these words."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    out, err = capsys.readouterr()
    return ended.value.code, out, err
