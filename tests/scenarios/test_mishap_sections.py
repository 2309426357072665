"""[[fault]] of every kind: what the network gets from a file, and what is refused in one line."""

from __future__ import annotations

import pytest
from tradebft.network.faults import Fault
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import Scenario, ScenarioError, load
from tradebft.scenarios.simulation import schedule

MS, S = 10**6, 10**9
HEAD = """\
# A network of four.
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }
[workload]
kind = "synthetic"
transactions = 40
arrival = "open"
rate = 20
clients = 2
"""


@pytest.fixture
def scenario(tmp_path):
    def loaded(*faults: str, head: str = HEAD) -> Scenario:
        path = tmp_path / "a.toml"
        path.write_text(head + "".join(f"[[fault]]\n{fault}\n" for fault in faults))
        return load(path)

    return loaded


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('crash = "replica.2"\nfor = "3 s"', Fault(S, 3 * S, "crash", (2,))),
        ('crash = ["replica.0", "replica.2"]\ntorn = true', Fault(S, None, "crash", (0, 2), torn=True)),
        ('partition = ["replica.1"]', Fault(S, None, "partition", groups=((1,),))),
        ('partition = [["replica.1", "client.0"], ["replica.2"]]', Fault(S, None, "partition", groups=((1, 4), (2,)))),
        ('one_way = [["replica.0"], ["replica.1", "replica.3"]]', Fault(S, None, "one-way", groups=((0,), (1, 3)))),
        ('one_way = [["client.1"], ["replica.0"]]', Fault(S, None, "one-way", groups=((5,), (0,)))),
        ('slow = "replica.3"', Fault(S, None, "slow", (3,), factor=10.0)),
        ('slow = "replica.3"\nfactor = 1\nloss = 0.5', Fault(S, None, "slow", (3,), loss=0.5)),
        ('drift = ["replica.1"]\nfactor = 0.5', Fault(S, None, "drift", (1,), factor=0.5)),
        ("duplicate = 0.1", Fault(S, None, "duplicate", loss=0.1, spread_ns=100 * MS)),
        ('reorder = 0.2\nspread = "50 ms"', Fault(S, None, "reorder", loss=0.2, spread_ns=50 * MS)),
        ('spike = 1\nspread = "2 s"\nof = "replica.1"', Fault(S, None, "spike", (1,), loss=1.0, spread_ns=2 * S)),
    ],
)  # fmt: skip
def test_what_a_file_says_is_what_the_network_gets(scenario, text, fault):
    read = scenario('at = "1 s"\n' + text)
    assert schedule(read) == [fault]
    assert schedule(Scenario.model_validate(read.resolved())) == [fault]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("reorder = 0.1\nspike = 0.1", "found reorder and spike"),
        ("duplicate = 0", "found none"),
        ("duplicate = 1.5", "fault[0].duplicate: expected at most 1; found 1.5"),
        ('crash = "replica.1"\nspread = "1 s"', "reorder or spike fault has a spread; this one is a crash"),
        ('slow = "replica.1"\ntorn = true', "fault[0].torn: only a crash fault has a torn; this one is a slow"),
        ('duplicate = 0.1\nloss = 0.1', "fault[0].loss: only a slow fault has a loss; this one is a duplicate"),
        ('drift = "replica.1"\nof = "replica.2"', "only a duplicate or reorder or spike fault has a of"),
        ('drift = "replica.1"\nfactor = 11', "fault[0].factor: expected from 0.01 to 10; found 11"),
        ('drift = "replica.1"\nfactor = 0.001', "fault[0].factor: expected from 0.01 to 10; found 0.001"),
        ('slow = "replica.1"\nfactor = 0.5', "fault[0].factor: expected at least 1; found 0.5"),
        ('one_way = ["replica.1"]', "fault[0].one_way: expected two lists, who is not heard and by whom; found 1"),
        ('one_way = [[], ["replica.1"]]', "fault[0].one_way: expected at least one node in every list; found"),
        ('partition = [["replica.1"], []]', "fault[0].partition: expected at least one node in every list"),
        ('one_way = [["client.2"], ["replica.1"]]', "no such client 'client.2'; there are client.0 .. client.1"),
        ('one_way = [["client.01"], ["replica.1"]]', "no such client 'client.01'"),
        ('partition = ["client.x"]', "no such client 'client.x'"),
        ('partition = [["client.0"], ["client.0"]]', "expected every node at most once; found 'client.0' twice"),
        ('crash = "client.0"', "fault[0].crash: no such node 'client.0'"),
        ('drift = ["replica.7"]', "fault[0].drift: no such node 'replica.7'"),
        ('reorder = 0.1\nspread = "0 s"', "fault[0].spread: expected a duration"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(scenario, text, line):
    with pytest.raises(ScenarioError) as refused:
        scenario('at = "1 s"\n' + text)
    words = str(refused.value)
    assert line in words
    assert "\n" not in words


def test_clients_are_only_known_of_synthetic_load(scenario):
    head = HEAD[: HEAD.index("[workload]")] + '[workload]\nkind = "trade-finance"\n'
    with pytest.raises(ScenarioError, match=r'cut off only with workload.kind = "synthetic"'):
        scenario('at = "1 s"\npartition = ["client.0"]', head=head)


def test_a_file_with_all_of_them_runs(scenario):
    records = execute(
        scenario(
            'at = "0 s"\nfor = "4 s"\nduplicate = 0.2',
            'at = "0 s"\nfor = "4 s"\nreorder = 0.2\nspread = "30 ms"',
            'at = "100 ms"\nfor = "1 s"\nspike = 0.1\nof = "replica.1"',
            'at = "200 ms"\nfor = "1 s"\ncrash = "replica.2"\ntorn = true',
            'at = "500 ms"\nfor = "1 s"\none_way = [["replica.0"], ["replica.1", "client.1"]]',
            'at = "1 s"\nfor = "1 s"\npartition = ["client.0"]',
            'at = "1 s"\ndrift = "replica.3"\nfactor = 0.5',
        ),
        lambda *_: None,
    )
    assert records.violations == []
    assert (records.requests["replied_ns"] > 0).all()
    assert records.dropped["one-way"] > 0
    assert records.dropped["partition"] > 0
    kinds = [what for _, _, what, _ in records.faults]
    assert kinds == ["duplicate", "reorder", "spike", "crash", "one_way", "partition", "drift"]
