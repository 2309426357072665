"""Every built-in scenario loads, says what it answers, and states what must come out."""

import pytest
from tradebft.scenarios import catalogue
from tradebft.scenarios.schema import Synthetic, TradeFinance, load

BUILT_IN = [
    "bank-outage",
    "changing-members",
    "coverage",
    "crashed-members",
    "delaying-primary",
    "double-financing",
    "flooding",
    "guizhou",
    "guizhou-pilot",
    "lossy-network",
    "national",
    "partition",
    "primary-crash",
    "recovery-time",
    "rolling-restarts",
    "stress",
]


def test_the_names():
    assert catalogue.names() == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
class TestEach:
    def test_it_loads_and_expects_agreement(self, name):
        scenario = load(name)
        assert scenario.name == name
        assert scenario.expect["agreement"] is True
        assert len(scenario.expect) > 1 or name == "stress"
        assert scenario.title
        assert not scenario.warnings

    def test_it_opens_with_its_question(self, name):
        text = catalogue.text(name)
        assert text.startswith("# ")
        entry = next(entry for entry in catalogue.entries() if entry.name == name)
        assert entry.question.endswith("?")
        assert entry.setting
        assert load(name).question == f"{entry.question} {entry.setting}"

    def test_it_loads_again_from_what_a_result_keeps_of_it(self, name):
        scenario = load(name)
        assert type(scenario).model_validate(scenario.resolved()) == scenario


def test_guizhou_is_the_month_of_seven_validators():
    scenario = load("guizhou")
    assert (scenario.days, len(scenario.node_names), scenario.quorum) == (30, 7, 5)
    assert scenario.node_names[:2] == ["administrator", "policy_bank"]
    assert isinstance(scenario.workload, TradeFinance)
    assert scenario.workload.arms == ("paper", "database", "chain")


def test_the_partition_leaves_no_side_a_quorum():
    scenario = load("partition")
    (fault,) = scenario.faults
    one_side = len(fault.groups[0])
    assert max(one_side, len(scenario.node_names) - one_side) < scenario.quorum


def test_the_crashed_primary_is_the_first_one():
    scenario = load("primary-crash")
    assert scenario.index(scenario.faults[0].crash[0]) == 0


def test_stress_is_synthetic_and_open():
    workload = load("stress").workload
    assert isinstance(workload, Synthetic)
    assert workload.arrival == "open"


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        catalogue.text("nowhere")
