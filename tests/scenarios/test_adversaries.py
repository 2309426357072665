"""[[byzantine]] in a scenario file: what it may say, what it becomes, and the one line that a mistake gets."""

from __future__ import annotations

import pytest
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.scenarios import simulation
from tradebft.scenarios.adversaries import dishonest_clients, misbehaviours
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import ScenarioError, load

S = 10**9
HEAD = """\
title = "adversaries"
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }
[nodes]
cpu = "none"
[consensus]
checkpoint_interval = 16
view_change_timeout = "300 ms"
client_timeout = "300 ms"
[workload]
kind = "synthetic"
transactions = 60
clients = 3
"""


@pytest.fixture
def scenario(tmp_path):
    def made(*tables, head=HEAD):
        path = tmp_path / "evil.toml"
        path.write_text(head + "".join(f"[[byzantine]]\n{table}\n" for table in tables))
        return load(path)

    return made


def test_names_become_indices_and_other_keys_parameters(scenario):
    loaded = scenario(
        'node = "replica.0"\nbehaviour = "equivocate"\nby = "order"\nat = "1 s"\nfor = "2 s"',
        'node = ["replica.2", "replica.3"]\nbehaviour = "omit"\npercent = 7',
        'node = ["client.0", "client.2"]\nbehaviour = "double-submit"',
        'node = "replica.2"\nbehaviour = "starve"\nclient = "client.1"',
    )
    assert misbehaviours(loaded) == [
        Misbehaviour(0, "equivocate", {"by": "order"}, 1 * S, 3 * S),
        Misbehaviour(2, "omit", {"percent": 7}, 0, None),
        Misbehaviour(3, "omit", {"percent": 7}, 0, None),
        Misbehaviour(2, "starve", {"client": "client.1"}, 0, None),
    ]
    assert dishonest_clients(loaded) == {"client.0": "double-submit", "client.2": "double-submit"}
    cluster = simulation.cluster(loaded, ["client.0", "client.1", "client.2"])
    assert cluster.byzantine == {0, 2, 3}


def test_a_scenario_with_adversaries_loads_again_from_what_it_says_of_itself(scenario, tmp_path):
    loaded = scenario('node = "replica.1"\nbehaviour = "flood"\nrate = 30\nkinds = "status"')
    assert type(loaded).model_validate(loaded.resolved()) == loaded
    assert loaded.resolved()["byzantine"][0]["rate"] == 30
    assert load(tmp_path / "evil.toml", {"byzantine.0.rate": "40"}).byzantine[0].parameters["rate"] == 40


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            'node = "replica.0"\nbehaviour = "equivocat"',
            ":17: byzantine[0].behaviour: expected one of silent",
        ),
        ('node = "replica.0"\nbehaviour = "equivocat"', "did you mean 'equivocate'?"),
        ('node = "replica.4"\nbehaviour = "silent"', ":16: byzantine[0].node: no such node 'replica.4'"),
        ('node = ["replica.0", "replica.0"]\nbehaviour = "silent"', "every node at most once"),
        (
            'node = "replica.0"\nbehaviour = "omit"\npercentage = 3',
            "unknown key; expected one of node, behaviour",
        ),
        ('node = "replica.0"\nbehaviour = "omit"\npercentage = 3', "did you mean 'percent'?"),
        (
            'node = "replica.0"\nbehaviour = "omit"\npercent = "3"',
            ":18: byzantine[0].percent: expected a whole number",
        ),
        ('node = "replica.0"\nbehaviour = "equivocate"\nby = "tiem"', "expected one of time, order, subset"),
        (
            'node = "replica.0"\nbehaviour = "flood"\nkinds = "status stauts"',
            ":18: byzantine[0].kinds: expected some of future-view, in-window",
        ),
        (
            'node = "replica.0"\nbehaviour = "flood"\nrate = 1_000_001',
            ":18: byzantine[0].rate: expected at most 1,000,000; found 1000001",
        ),
        (
            'node = "replica.0"\nbehaviour = "starve"\nclient = "client.3"',
            ":18: byzantine[0].client: no such client 'client.3'; there are client.0 .. client.2",
        ),
        ('node = "replica.0"', "behaviour: missing"),
        ('behaviour = "silent"', "node: missing"),
        ('node = []\nbehaviour = "silent"', "expected at least one node; found none"),
        ('node = ["replica.0", "client.0"]\nbehaviour = "silent"', "no such node 'client.0'"),
        ('node = ["client.0", "client.0"]\nbehaviour = "far-ahead"', "every node at most once"),
        ('node = "replica.0"\nbehaviour = "silent"\nat = "9 days"', "a moment within the simulated time"),
        (
            'node = "client.3"\nbehaviour = "far-ahead"',
            "no such client 'client.3'; there are client.0 .. client.2",
        ),
        ('node = "client.0"\nbehaviour = "far-ahed"', "did you mean 'far-ahead'?"),
        ('node = "client.0"\nbehaviour = "far-ahead"\nat = "1 s"', "misbehaves all the time"),
        ('node = "client.0"\nbehaviour = "far-ahead"\nrate = 3', "has no parameters"),
        ('node = "replica.0"\nbehaviour = "nowhere_at_all:Class"', "cannot import 'nowhere_at_all'"),
        (
            'node = "replica.0"\nbehaviour = "json:JSONDecoder"',
            "expected a subclass of tradebft.consensus.byzantine",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_it(scenario, table, words):
    with pytest.raises(ScenarioError) as error:
        scenario(table)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_one_bracket_is_a_mistake_that_is_explained(scenario):
    with pytest.raises(ScenarioError, match=r"expected \[\[byzantine\]\] with two brackets"):
        scenario(head=HEAD + '[byzantine]\nnode = "replica.0"\nbehaviour = "silent"\n')


def test_dishonest_clients_are_for_synthetic_load(scenario):
    trade = 'title = "t"\n[workload]\nkind = "trade-finance"\n'
    with pytest.raises(ScenarioError, match=r"only with workload\.kind"):
        scenario('node = "client.0"\nbehaviour = "far-ahead"', head=trade)
    assert misbehaviours(scenario('node = "policy_bank"\nbehaviour = "silent"', head=trade))[0].node == 1


def test_whom_a_primary_starves_in_trade_finance_is_one_who_may_ask(scenario):
    head = 'title = "t"\n[network]\nnodes = 4\n[workload]\nkind = "trade-finance"\nbanks = 5\n'
    starve = 'node = "administrator"\nbehaviour = "starve"\nclient = "{}"'
    for client in ("", "customs", "administrator", "policy_bank", "commercial_bank.4"):
        assert misbehaviours(scenario(starve.format(client), head=head))[0].parameters == {"client": client}
    for client in ("comercial_bank.1", "commercial_bank.5", "client.0"):
        with pytest.raises(ScenarioError) as error:
            scenario(starve.format(client), head=head)
        there = "there are administrator, customs, policy_bank .. commercial_bank.4"
        assert f"byzantine[0].client: no such client {client!r}; {there}" in str(error.value)


def test_more_than_f_adversaries_are_a_warning(scenario):
    assert scenario('node = "replica.0"\nbehaviour = "silent"').warnings == []
    loaded = scenario('node = ["replica.0", "replica.1"]\nbehaviour = "silent"')
    assert len(loaded.warnings) == 1
    assert "2 of 4 members misbehave and f = 1" in loaded.warnings[0]


def test_a_run_with_an_adversary_answers_everybody_and_one_beyond_f_breaks_agreement(scenario):
    quiet = lambda *_: None  # noqa: E731
    within = execute(scenario('node = "replica.0"\nbehaviour = "equivocate"'), quiet)
    assert within.violations == []
    assert within.faults == [(0, -1, "byzantine equivocate", "replica.0")]
    assert within.requests.height == 60
    assert (within.requests["replied_ns"] > 0).all()
    beyond = execute(scenario('node = ["replica.0", "replica.1"]\nbehaviour = "equivocate"'), quiet)
    assert any(violation["invariant"] == "agreement" for violation in beyond.violations)


OWN = '''\
from tradebft.consensus.byzantine import Behaviour


class Twice(Behaviour):
    """Says everything *times* times."""

    defaults = {"times": 2}

    def does(self, now, effect):
        return [effect] * self.parameters["times"]
'''


def test_a_behaviour_of_ones_own_lies_beside_the_scenario(scenario, tmp_path):
    (tmp_path / "my_behaviours.py").write_text(OWN)
    loaded = scenario('node = "replica.0"\nbehaviour = "my_behaviours:Twice"\ntimes = 3')
    assert simulation.cluster(loaded, ["client.0"]).nodes[0].replica.parameters["times"] == 3
    with pytest.raises(ScenarioError, match="did you mean 'times'"):
        scenario('node = "replica.0"\nbehaviour = "my_behaviours:Twice"\ntime = 3')
    with pytest.raises(ScenarioError, match="did you mean 'Twice'"):
        scenario('node = "replica.0"\nbehaviour = "my_behaviours:Twise"')
