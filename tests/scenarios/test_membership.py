"""Changes of the members in a scenario file: what is refused, and that a network with them answers everybody."""

from __future__ import annotations

import pytest
from tradebft.lab import run
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.membership import later_keys, spare
from tradebft.scenarios.schema import load

SMALL = """
title = "changes"
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }
[consensus]
checkpoint_interval = 8
[workload]
kind = "synthetic"
arrival = "open"
rate = 100
transactions = 600
"""


def written(tmp_path, changes, base=SMALL):
    path = tmp_path / "a.toml"
    path.write_text(base + "".join(f"[[membership]]\n{change}\n" for change in changes))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['at = "1 s"'], "expected exactly one of admit, retire and rekey; found none"),
        (['at = "1 s"\nadmit = "replica.4"\nretire = "replica.1"'], "found admit and retire"),
        (['at = "1 s"\nadmit = "replica.9"'], "membership[0].admit: expected a replica that is no member"),
        (['at = "1 s"\nadmit = "replica.1"'], "at most replica.4; found replica.1"),
        (['at = "1 s"\nretire = "replica.4"'], "expected one of the members at that time; found replica.4"),
        (['at = "1 s"\nrekey = "somebody"'], "expected \"replica.N\"; found 'somebody'"),
        (
            [f'at = "{k} s"\nretire = "replica.{k}"' for k in range(4)],
            "membership[3].retire: expected somebody",
        ),
    ],
)
def test_what_cannot_happen_is_one_line(tmp_path, changes, expected):
    with pytest.raises(ScenarioError) as refused:
        load(written(tmp_path, changes))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_members_change_with_synthetic_load_only(tmp_path):
    trade = 'title = "x"\n[workload]\nkind = "trade-finance"\n'
    with pytest.raises(ScenarioError, match="synthetic"):
        load(written(tmp_path, ['at = "1 s"\nretire = "replica.0"'], trade))


def test_how_many_wait_and_how_many_keys(tmp_path):
    changes = ['at = "1 s"\nadmit = "replica.4"', 'at = "2 s"\nadmit = "replica.5"']
    changes += ['at = "3 s"\nrekey = "replica.1"', 'at = "4 s"\nrekey = "replica.1"']
    scenario = load(written(tmp_path, changes))
    assert (spare(scenario), later_keys(scenario)) == (2, 2)


def test_everybody_is_answered_while_members_change(tmp_path):
    changes = [
        'at = "1 s"\nadmit = "replica.4"',
        'at = "2 s"\nrekey = "replica.1"',
        'at = "4 s"\nretire = "replica.0"',
    ]
    finished = run(written(tmp_path, changes))
    document = finished.document
    assert document["invariants"]["violations"] == []
    assert document["consensus"]["unanswered"] == 0
    assert document["consensus"]["view_changes"] == 0
    assert document["consensus"]["messages"]["EpochChange"] > 0
    assert document["consensus"]["transactions"] == 600 + len(changes)
