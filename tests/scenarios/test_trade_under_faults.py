"""Whatever happens to the members, the platform says the same of every application as one that never fails: later."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest
from tradebft.scenarios.demand import FRAUD_CASES
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import load

MEMBERS = ["administrator", "policy_bank", *(f"commercial_bank.{k}" for k in range(1, 6))]
FAULTS = 2  # that seven members tolerate at a time
FRAUDS = "\n".join(f"{kind} = 0.01" for kind in FRAUD_CASES)


def mishap(draw: random.Random) -> str:
    """One fault within office hours. What needs a quorum stands still for minutes, what does not for hours."""
    count = draw.choice([1, 1, 2, 2, 3, 7])
    some = draw.sample(MEMBERS, count)
    others = [name for name in MEMBERS if name not in some]
    length = draw.choice(["2 h", "30 h"] if count <= FAULTS else ["2 min", "20 min"])
    kind = draw.choice(
        [
            f"crash = {some}",
            f"crash = {some}\ntorn = true",
            f"partition = {draw.sample(MEMBERS, min(count, 4))}",
            f"one_way = [{some}, {others or some}]",
            f"slow = {some}\nfactor = {draw.choice([1.0, 30.0])}\nloss = {draw.choice([0.1, 0.4])}",
            f"drift = {some}\nfactor = {draw.choice([0.1, 3.0])}",
            f"{draw.choice(['duplicate', 'reorder', 'spike'])} = 0.3\nspread = '2 s'",
        ]
    )
    at = f"day {draw.randint(1, 3)} {draw.randint(8, 17):02d}:{draw.randint(0, 59):02d}"
    return f"[[fault]]\nat = '{at}'\nfor = '{length}'\n{kind}\n"


def scenario(seed: int) -> str:
    draw = random.Random(seed)
    links = draw.choice(['{ model = "distance" }', '{ model = "lognormal", median = "20 ms", sigma = 1.0 }'])
    return f"""
days = 3
seed = {seed}
[network]
links = {links}
bandwidth = "100 Mbit/s"
loss = {draw.choice([0.0, 0.01, 0.05])}
[workload]
kind = "trade-finance"
arms = ["database", "chain"]
sensitivity = false
anchor_all_declarations = false
default_fraud = false
[workload.fraud]
{FRAUDS}
[workload.policy]
reservation_ttl = "{draw.choice(["10 days", "6 h"])}"
{"".join(mishap(draw) for _ in range(draw.randint(1, 4)))}"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_every_application_ends_as_on_a_database_that_never_fails(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "drawn.toml"
    path.write_text(scenario(seed))
    records = execute(load(str(path)), lambda *_: None, engine="auto")
    assert records.violations == []
    assert records.false_alarms == 0
    assert all(row["missed"] == 0 for row in records.fraud.values() if row["in_scope"]), records.fraud
    outcomes = {
        arm: records.applications.filter(pl.col("arm") == arm).sort("application")["outcome"].to_list()
        for arm in ("database", "chain")
    }
    assert outcomes["chain"] == outcomes["database"]
    assert set(outcomes["chain"]) == {"disbursed", "rejected"}
