"""The room that the compiled engine sets aside: bounded, whatever a scenario allows."""

from __future__ import annotations

import pytest
from tradebft.consensus.interface import Config
from tradebft.network.cluster import Settings
from tradebft.network.engines import Uncovered, built
from tradebft.network.links import Normal
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh


def settings(**config: int) -> Settings:
    wire = Wire(Normal(5_000_000, 1_000_000), Mesh(4), None, 0.0)
    return Settings(Config(4, **config), wire, 1, ["client.0"], 10**10)


@pytest.mark.parametrize(
    "large",
    [
        {"checkpoint_interval": 200_000, "log_window": 400_000},
        {"window": 500_000, "checkpoint_interval": 500_000, "log_window": 1_000_000},
        {"batch_size": 1_000_000},
        {"client_window": 20_000_000},
    ],
)
def test_it_sets_no_more_than_a_gigabyte_aside(large: dict[str, int]) -> None:
    """It took what the log, the windows and batches could need, 24 GB of it, until the machine killed the process."""
    with pytest.raises(Uncovered, match=r"logs, windows and batches of [1-9]\d* GiB \(consensus"):
        built(settings(**large), "compiled")
