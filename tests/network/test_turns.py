"""Members and clients that share one machine and work in turns: what must hold whatever the costs are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tradebft.network.costs import CpuCosts
from tradebft.network.turns import BrokerCosts, MachineCosts
from tradebft.scenarios import simulation
from tradebft.scenarios.run import execute, on_one_machine
from tradebft.scenarios.schema import Synthetic, load

CPU = CpuCosts(message_ns=10_000, kilobyte_ns=1_000, sign_ns=20_000, verify_ns=60_000, execute_ns=1_000)


def machine(cores: int = 1, **changes: Any) -> MachineCosts:
    settings = {
        "cpu": CPU, "again": CPU, "wake_ns": 0, "speak_ns": 0, "seal_ns": 50_000, "open_ns": 80_000,
        "writes_ns": (300_000,), "write_cpu_ns": 0, "record_ns": 0,
    }  # fmt: skip
    return MachineCosts(**{"cores": cores, "hop_ns": 0, **settings, **changes})


def played(
    on: MachineCosts, batch: int = 1, outstanding: int = 1, transactions: int = 40, nodes: int = 4
) -> Any:
    scenario = load(
        "stress",
        {
            "network": {"nodes": nodes, "links": {"model": "constant", "delay": "0 ms"}},
            "consensus": {"batch_size": batch, "view_change_timeout": "10 s", "client_timeout": "20 s"},
            "workload": {
                "kind": "synthetic", "clients": 1, "outstanding": outstanding, "transactions": transactions,
            },
            "expect": {},
        },
    )  # fmt: skip
    workload = scenario.workload
    assert isinstance(workload, Synthetic)
    return (*on_one_machine(scenario, workload, on, lambda *_: None), scenario)


def test_with_one_processor_the_load_takes_as_long_as_all_the_work() -> None:
    """Nothing is done at the same time, and nothing waits for anything else: writes included."""
    records, busy, _ = played(machine(write_cpu_ns=300_000))
    client = records.requests["replied_ns"].max() - sum(busy) * 1e9
    # The client's part: requests made, signed and sealed; answers of two members or more taken in.
    least = 40 * (10_000 + 20_000 + 50_000 + 2 * (80_000 + 10_000))
    assert 0.9 * least < client < 3 * least


def test_more_processors_make_it_faster_until_nobody_waits_for_one() -> None:
    times = [
        played(machine(cores), outstanding=8)[0].requests["replied_ns"].max() for cores in (1, 2, 4, 8, 100)
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] > 1.6 * times[1]
    assert times[3] == pytest.approx(times[4], rel=0.05)


def test_messages_are_those_of_a_network_in_which_computing_is_free() -> None:
    records, _, scenario = played(machine())
    assert records.messages == execute(scenario, lambda *_: None).messages
    assert records.violations == []


def test_nobody_commits_more_than_the_processors_allow() -> None:
    for batch, outstanding in ((1, 20), (20, 40)):
        records, busy, _ = played(machine(2), batch, outstanding, transactions=400)
        seconds = records.requests["replied_ns"].max() / 1e9
        assert sum(busy) <= 2 * seconds


def test_a_batch_saves_work_and_an_envelope_is_shared() -> None:
    alone = played(machine(), 1, 40, 400)[0].requests["replied_ns"].max()
    together = played(machine(), 40, 40, 400)[0].requests["replied_ns"].max()
    assert alone > 1.5 * together
    messages = sum(played(machine(), 40, 40, 400)[0].messages.values())
    for cost, least in (("seal_ns", 50_000), ("open_ns", 80_000)):
        saved = together - played(machine(**{cost: 0}), 40, 40, 400)[0].requests["replied_ns"].max()
        assert 0 < saved < 0.9 * messages * least  # fewer envelopes than messages


def test_durable_writes_are_drawn_and_repeat() -> None:
    drawn = machine(writes_ns=(100_000, 200_000, 5_000_000))
    one, again = (played(drawn)[0].requests["replied_ns"].to_list() for _ in range(2))
    assert one == again
    steps = [b - a for a, b in pairwise([0, *one])]
    assert max(steps) > 2 * min(steps)  # some met a slow write
    steady = played(machine())[0].requests["replied_ns"].to_list()
    steady_steps = [b - a for a, b in pairwise(steady)]
    assert max(steady_steps) < 1.5 * min(steady_steps)


def test_no_faults_on_a_shared_machine() -> None:
    scenario = load("stress", {"fault": [{"at": "1 s", "crash": "replica.1", "for": "1 s"}]})
    with pytest.raises(ValueError, match="no faults"):
        simulation.cluster(scenario, ["client.0"], machine=machine())


def last(**changes: Any) -> int:
    """When the last of 400 requests, 40 at a time, is answered."""
    return int(played(machine(**changes), 40, 40, 400)[0].requests["replied_ns"].max())


def test_what_is_paid_once_a_turn_is_paid_less_often_than_what_is_paid_for_each() -> None:
    base = last()
    for of_turn, of_each in (("wake_ns", "open_ns"), ("speak_ns", "seal_ns")):
        once, each = (
            last(**{of_turn: 100_000}) - base,
            last(**{of_each: 100_000 + getattr(machine(), of_each)}) - base,
        )
        assert 0 < once < each


def test_the_second_of_a_turn_is_cheaper_where_caches_hold_it() -> None:
    warm = CpuCosts(message_ns=5_000, kilobyte_ns=1_000, sign_ns=10_000, verify_ns=30_000, execute_ns=1_000)
    assert last(again=warm) < 0.9 * last()
    one_by_one = [int(played(machine(again=c))[0].requests["replied_ns"].max()) for c in (CPU, warm)]
    assert one_by_one[1] > 0.7 * one_by_one[0]  # with one request at a time most are the first of their turn


def test_records_beyond_the_first_of_a_write_cost_processor_time() -> None:
    assert last(record_ns=50_000) > last()


def test_a_broker_shares_the_machine_and_changes_no_message() -> None:
    alone, _, scenario = played(machine(), 1, 8, 80)
    brokered, _, _ = played(machine(broker=BrokerCosts(0, 0, 0)), 1, 8, 80)
    assert brokered.messages == alone.messages == execute(scenario, lambda *_: None).messages
    times = [
        played(machine(broker=BrokerCosts(wake, take, give)), 1, 8, 80)[0].requests["replied_ns"].max()
        for wake, take, give in ((0, 0, 0), (50_000, 0, 0), (0, 50_000, 0), (0, 0, 50_000))
    ]
    assert min(times[1:]) > times[0]
    assert times[3] > times[2]  # most envelopes go out in several copies


def test_a_request_begins_when_its_client_learns_of_the_answer_before() -> None:
    """In a closed loop the time between is the client's, not the network's: it is in no latency."""
    records = played(machine(), 40, 40, 400)[0].requests
    seconds = records["replied_ns"].max() / 1e9
    mean = float((records["replied_ns"] - records["intended_ns"]).mean()) / 1e9
    assert mean < 40 * seconds / 400
    assert (records["submitted_ns"] == records["intended_ns"]).all()
