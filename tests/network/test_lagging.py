"""Members that fall behind although nothing is lost and nobody is down: far away now and then, or overloaded."""

import numpy as np
import pytest
from tradebft.network.chronicle import History
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import Scenario

MS = 10**6
BLOCKS = {"checkpoint_interval": 4, "log_window": 8, "snapshot_interval": 16, "batch_size": 1, "window": 4}


class NowAndThen:
    """Everybody is 1 ms away; the last of four members for *near* of its messages only, else two seconds."""

    minimum_ns = MS

    def __init__(self, near: float) -> None:
        self.near = near

    def delays(self, sender, receivers, u):
        far = ((receivers == 3) | (sender == 3)) & (u >= self.near)
        return np.where(far, 2000 * MS, MS)


def scenario(near: float, snapshots: bool = True) -> Scenario:
    return Scenario.model_validate(
        {
            "network": {"nodes": 4, "links": {"model": f"{__name__}:NowAndThen", "near": near}},
            "nodes": {"cpu": "none"},
            "consensus": BLOCKS if snapshots else BLOCKS | {"snapshot_interval": 0},
            "workload": {
                "kind": "synthetic", "transactions": 1000, "arrival": "open", "rate": 100, "clients": 4,
            },
        }
    )  # fmt: skip


@pytest.mark.parametrize(("near", "snapshots"), [(0.2, False), (0.5, False), (0.5, True)])
def test_a_member_that_is_far_away_now_and_then_catches_up(monkeypatch, near, snapshots):
    """By blocks that the others executed long ago: with four log windows of them this once ended in a ValueError."""
    lags = []
    take = History.execute

    def watched(history, effect):
        lags.append(history._chronicle.height - effect.seq)
        return take(history, effect)

    monkeypatch.setattr(History, "execute", watched)
    found = [execute(scenario(near, snapshots), lambda *_: None, engine=one) for one in ("reference", "auto")]
    assert found[0].trace_digest == found[1].trace_digest
    assert not found[0].violations
    assert (found[0].requests["replied_ns"] >= 0).all()
    assert snapshots or max(lags) > 4 * BLOCKS["log_window"]
