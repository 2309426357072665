"""Remarks on what is allowed and probably not meant: that they are true, and that nothing is said without need."""

from __future__ import annotations

import pytest
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.messages import NewView, Prepared, PrePrepare, ViewChange, size
from tradebft.scenarios import catalogue
from tradebft.scenarios.remarks import new_view_ns, round_of_votes_ns
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import Scenario, load

MS = 1_000_000
SLOW = '{ model = "normal", mean = "600 ms", std = "100 ms" }'
FEW = {"workload.transactions": 20, "workload.arrival": "open", "workload.rate": 0.2}


def own(**changes: object) -> Scenario:
    return load("stress", FEW | {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("name", catalogue.names())
def test_nobody_remarks_on_what_comes_with_the_program(name: str) -> None:
    assert load(name).warnings == []


def test_where_everything_is_lost_nobody_is_answered() -> None:
    lost = own(network__loss=1, workload__transactions=3)
    assert lost.warnings == ["network.loss is 1: no message arrives, and nobody is ever answered"]
    assert lost.warnings_over("mqtt") == []  # where links and loss are the broker's own
    ran = execute(lost, lambda *_: None)
    assert ("PrePrepare" in ran.messages, ran.decisions.height) == (False, 0)


# --- slow links ---


def test_where_votes_take_longer_than_the_timeout_views_change_without_a_fault() -> None:
    slow = own(network__links=SLOW)
    (told,) = slow.warnings
    assert told == (
        "Prepares and Commits take 1.2 s over these links, and consensus.view_change_timeout is 1 s: "
        "views change without any fault; a longer timeout helps"
    )
    assert execute(slow, lambda *_: None).view_changes >= 10
    patient = own(network__links=SLOW, consensus__view_change_timeout="4 s")
    assert patient.warnings == []
    assert execute(patient, lambda *_: None).view_changes == 0


def test_where_votes_take_longer_than_a_client_waits_every_member_is_asked() -> None:
    quick = own(network__links='{ model = "constant", delay = "20 ms" }', consensus__client_timeout="40 ms")
    (told,) = quick.warnings
    assert told == (
        "Prepares and Commits take 40 ms over these links, and consensus.client_timeout is 40 ms: "
        "clients ask every member before anybody can have answered; a longer timeout helps"
    )
    asked = execute(quick, lambda *_: None).messages["Request"]
    patient = own(network__links='{ model = "constant", delay = "20 ms" }', consensus__client_timeout="1 s")
    assert patient.warnings == []
    assert asked >= 20 * (1 + 7) > 20 * 2 > execute(patient, lambda *_: None).messages["Request"]


def test_a_primary_that_waits_for_a_fuller_batch_as_long_as_backups_wait_for_it_is_suspected() -> None:
    """Who heard of a request has one timeout for all of it. A lost request reaches the backups from its client."""
    lossy = {"network__loss": 0.1, "workload__transactions": 200, "consensus__view_change_timeout": "500 ms"}
    waiting = own(consensus__batch_timeout="500 ms", **lossy)
    (told,) = waiting.warnings
    assert told.startswith(
        "a request may wait 500 ms for others (consensus.batch_timeout), and consensus.view_change"
    )
    brisk = own(consensus__batch_timeout="20 ms", **lossy)
    assert brisk.warnings == []
    often, seldom = (execute(one, lambda *_: None).view_changes for one in (waiting, brisk))
    assert often > 2 * seldom


@pytest.mark.parametrize(
    ("changes", "takes_ns"),
    [
        ({"network__links": '{ model = "constant", delay = "30 ms" }'}, 30 * MS),
        ({"network__links": '{ model = "constant", delay = "30 ms" }', "network__topology": "star"}, 60 * MS),
        ({"network__links": '{ model = "constant", delay = "30 ms" }', "network__nodes": 300}, 30 * MS),
        ({"network__links": '{ model = "uniform", low = "10 ms", high = "30 ms" }'}, 20 * MS),
        ({"network__links": '{ model = "constant", delay = "30 ms" }', "network__nodes": 1}, 0),
        (
            {
                "network__links": '{ model = "constant", delay = "30 ms" }',
                "network__topology": '{ generator = "line" }',
            },
            0,
        ),
    ],
)
def test_a_round_of_votes_is_one_way_of_the_links(changes: dict[str, object], takes_ns: int) -> None:
    """Of graphs nobody knows without a run."""
    assert round_of_votes_ns(own(**changes)) == takes_ns


def test_of_members_in_few_places_the_nearest_quorum_counts() -> None:
    """Four of seven in one city and five a quorum: the fifth is far away."""
    places = {f"replica.{i}": "Guiyang" if i < 4 else "Beijing" for i in range(7)}
    near = {f"replica.{i}": "Guiyang" if i < 5 else "Beijing" for i in range(7)}
    text = lambda cities: "{ " + ", ".join(f'"{name}" = "{city}"' for name, city in cities.items()) + " }"  # noqa: E731
    links = {"network__links": '{ model = "distance" }', "network__nodes": 7}
    apart, together = (own(network__places=text(cities), **links) for cities in (places, near))
    assert round_of_votes_ns(apart) > 10 * MS
    assert round_of_votes_ns(together) < 2 * MS


# --- a change of view ---


@pytest.mark.parametrize(("nodes", "interval"), [(4, 16), (7, 128), (40, 128)])
def test_a_new_view_is_as_large_as_it_is_told_to_be(nodes: int, interval: int) -> None:
    scenario = own(
        network__nodes=nodes, network__bandwidth="8 Mbit/s", consensus__checkpoint_interval=interval
    )
    value, signature, quorum = bytes(32), bytes(64), scenario.quorum
    votes = tuple((voter, signature) for voter in range(quorum - 1))
    prepared = tuple(
        Prepared(
            PrePrepare(0, seq, value, 0, None, signature), QuorumCertificate("Prepare", 0, seq, value, votes)
        )
        for seq in range(1, interval + 1)
    )
    changes = tuple(ViewChange(1, 0, None, prepared, member, signature) for member in range(quorum))
    proposals = tuple(one.pre_prepare for one in prepared)
    bytes_to_all = (nodes - 1) * size(NewView(1, changes, proposals, 1, signature))
    assert new_view_ns(scenario) == pytest.approx(bytes_to_all * 1000, rel=0.03)  # a byte a microsecond


def test_processors_and_interfaces_that_are_too_slow_for_a_change_of_view_are_told_of_at_once() -> None:
    wide = own(network__nodes=40, network__bandwidth="100 Mbit/s")
    (told,) = wide.warnings
    assert told.startswith(
        "a change of view may take 6.5 s of checking signatures at each of 40 members and 21.0 s of"
    )
    assert own(network__nodes=40, consensus__checkpoint_interval=8).warnings == []
    assert own(network__nodes=7, network__bandwidth="100 Mbit/s").warnings == []


def test_a_real_bus_has_processors_and_interfaces_of_its_own() -> None:
    wide = own(network__nodes=40, network__bandwidth="100 Mbit/s", network__links=SLOW)
    assert len(wide.warnings_over("simulated")) == 2
    assert len(wide.warnings_over("local")) == 1
    assert wide.warnings_over("mqtt") == []


# --- floods ---


def flood(**changes: object) -> dict[str, object]:
    return {"node": "replica.2", "behaviour": "flood"} | {
        key.rstrip("_"): value for key, value in changes.items()
    }


@pytest.mark.parametrize(
    ("name", "floods", "millions"),
    [  # messages a second x seconds x the six others
        ("guizhou", [flood()], "15,552"),
        ("guizhou", [flood(rate=100, at="1 day", for_="1 day")], "52"),
        (
            "guizhou",
            [flood(rate=100, at="29 days", for_="9 days"), flood(node=["replica.3", "replica.4"], rate=1)],
            "83",
        ),
        ("guizhou", [flood(for_="1 h")], None),
        ("stress", [flood(rate=1_000_000)], None),  # two seconds
        ("stress", [flood(rate=1_000_000)] * 3, "36"),
    ],
)
def test_a_flood_of_days_is_long_to_simulate(
    name: str, floods: list[dict[str, object]], millions: str | None
) -> None:
    told = [words for words in load(name, {"byzantine": floods}).warnings if "flood" in words]
    expected = f"the flood is of {millions} million messages, which take long to simulate: "
    assert len(told) == (millions is not None)
    assert all(words.startswith(expected) for words in told)
