"""Overrides, and the promise behind all of it: whatever is set is a scenario, or is refused in one line."""

import datetime
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tradebft.scenarios.schema import Scenario, ScenarioError, UniformLinks, load

SMALL = """\
# Is it small?
# It is.
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }

[workload]
kind = "synthetic"
"""

TRADE = SMALL.replace("synthetic", "trade-finance")


@pytest.fixture
def write(tmp_path):
    def written(text, name="a.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


@pytest.fixture
def refused(write):
    """The line that refuses a text, from behind the folder of the file."""

    def line(text, overrides=None):
        path = write(text)
        with pytest.raises(ScenarioError) as caught:
            load(path, overrides)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{path.parent}{os.sep}")

    return line


class TestOverrides:
    def test_texts_are_read_as_toml_values_or_taken_as_they_are(self, write):
        overrides = {
            "consensus.batch_size": "10",
            "consensus.view_change_timeout": "2 s",
            "network.links": '{ model = "uniform", low = "1 ms", high = "2 ms" }',
            "workload.transactions": 7,
            "expect.consensus.client_ms.p99": "< 5",
            "title": '"10"',
        }
        scenario = load(write(SMALL), overrides, seed=9)
        assert scenario.consensus.batch_size == 10
        assert scenario.consensus.view_change_timeout_ns == 2 * 10**9
        assert isinstance(scenario.network.links, UniformLinks)
        assert scenario.workload.transactions == 7
        assert scenario.expect == {"consensus.client_ms.p99": "< 5"}
        assert (scenario.title, scenario.seed) == ("10", 9)

    def test_lists_take_positions(self, write):
        text = SMALL + '[[fault]]\nat = "30 s"\ncrash = "replica.3"\n'
        assert load(write(text), {"fault.0.crash": "replica.1"}).faults[0].crash == ("replica.1",)

    @pytest.mark.parametrize(
        ("key", "value", "line"),
        [
            ("consensus.batch_sise", "10", "--set consensus.batch_sise: consensus.batch_sise: unknown key;"),
            (
                "consensus.batch_size",
                "ten",
                "--set consensus.batch_size: consensus.batch_size: expected a whole",
            ),
            ("network.nodes.x", "1", "--set network.nodes.x: network.nodes is 4 and has no keys"),
            ("fault.0.at", "1 s", "--set fault.0.at: the scenario has no fault to change"),
            ("workload", "3", "--set workload: workload: expected a table; found 3"),
            ("a..b", "3", "--set a..b: expected a dotted key such as consensus.batch_size"),
        ],
    )
    def test_an_error_names_the_override(self, refused, key, value, line):
        assert refused(SMALL, {key: value}).startswith(line)


KEYS = [
    *("seed", "days", "start", "tags", "name", "title", "network", "network.nodes", "network.members"),
    *(
        "network.links",
        "network.links.delay",
        "network.links.model",
        "network.client_links",
        "network.topology",
    ),
    *(
        "network.topology.edges",
        "network.topology.degree",
        "network.places",
        "network.loss",
        "network.bandwidth",
    ),
    *("nodes", "nodes.cpu", "nodes.cpu.sign", "consensus", "consensus.protocol", "consensus.log_window"),
    *("workload", "workload.kind", "workload.rate", "workload.fraud", "workload.arms", "workload.policy"),
    *("fault", "fault.0", "fault.0.at", "fault.0.crash", "fault.0.partition", "fault.0.factor", "fault.1"),
    *(
        "expect",
        "expect.a.b",
        "expect.agreement",
        "x",
        "network.x",
        "fault.0.x",
        "0",
        "fault.x",
        "..",
        "network..x",
    ),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("a5.:'\"\n\0é[{", max_size=8)
    | st.sampled_from(
        ["replica.1", "1 s", "10 Mbit/s", "1 KiB", "star", "uniform", "trade-finance", "a:b", "< 4"]
    )
    | st.just(datetime.date(2021, 2, 12))
    | st.just(datetime.datetime(2021, 2, 12, 9)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "kind", "delay", "low", "edges", "generator", "at", "crash", "F1", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([SMALL, TRADE]), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_whatever_is_set_is_a_scenario_or_one_line(tmp_path_factory, text, overrides):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text + '[[fault]]\nat = "30 s"\ncrash = "replica.3"\n')
    refusal = None
    try:
        scenario = load(path, overrides)
    except ScenarioError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
    else:
        assert Scenario.model_validate(scenario.resolved()).resolved() == scenario.resolved()
