"""The inbox of a node whose computing takes time: so many messages a sender, whoever else may flood it."""

from __future__ import annotations

import heapq
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import Config, Start
from tradebft.consensus.messages import (
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Request,
    Status,
    ViewChange,
    size,
)
from tradebft.network.application import HashChain
from tradebft.network.chronicle import Chronicle
from tradebft.network.costs import MEASURED, CpuCosts
from tradebft.network.node import INBOX_PER_SENDER, SEEN_KEPT, ReplicaNode, Shared

DIGEST = bytes(32)
FULL = "inbox full"
CHECKS = CpuCosts(message_ns=0, kilobyte_ns=0, verify_ns=1000, sign_ns=0, execute_ns=0)  # time counts checks


class Listening:
    """A replica that writes down what it is given, and asks for nothing."""

    def __init__(self) -> None:
        self.me, self.config, self.heard = 0, Config(4), []

    def step(self, now, event):
        if not isinstance(event, Start):
            self.heard.append((now, event))
        return ()


class Bench:
    """One node and a bus that hands its work back to it when it is due."""

    def __init__(self, costs: CpuCosts = MEASURED) -> None:
        self.work: list = []
        self.recorder = SimpleNamespace(dropped=Counter(), ignored=Counter())
        shared = Shared(self, self.recorder, None, Chronicle(HashChain), costs)  # type: ignore[arg-type]
        self.replicas: list[Listening] = []
        self.node = ReplicaNode(0, self._make, shared, lambda: 15)

    def _make(self) -> Listening:
        self.replicas.append(Listening())
        return self.replicas[-1]

    def later(self, at, endpoint, work) -> None:
        heapq.heappush(self.work, (at, len(self.work), work))

    def run(self, until: int | None = None) -> None:
        """Let the processor do what it finishes by *until*."""
        while self.work and (until is None or self.work[0][0] <= until):
            at, _, work = heapq.heappop(self.work)
            self.node.process(at, work)

    @property
    def heard(self) -> list:
        return [event for _, event in self.replicas[-1].heard]


def prepare(sender: int, seq: int) -> Prepare:
    return Prepare(0, seq, DIGEST, sender, b"%d/%d" % (sender, seq))


# --- so many of each sender ---


@pytest.mark.parametrize("beyond", [-1, 0, 1, 1000])
def test_a_sender_gets_so_many_places_and_what_is_beyond_them_is_dropped_and_counted(beyond):
    bench = Bench()
    for seq in range(INBOX_PER_SENDER + beyond):
        bench.node.queue(0, prepare(1, seq))
    dropped = max(0, beyond)
    assert bench.recorder.dropped[FULL] == dropped
    bench.run()
    # The first ones stay, in order: a flood cannot push out what came before it.
    assert [m.seq for m in bench.heard] == list(range(INBOX_PER_SENDER + beyond - dropped))


def test_one_senders_flood_takes_no_place_of_anothers():
    bench = Bench()
    for seq in range(5 * INBOX_PER_SENDER):
        bench.node.queue(0, prepare(1, seq))
    for seq in range(INBOX_PER_SENDER):
        bench.node.queue(0, prepare(2, seq))
        bench.node.queue(0, Request("bank", seq, b"", b"%d" % seq))
    assert bench.recorder.dropped[FULL] == 4 * INBOX_PER_SENDER
    bench.run()
    by = Counter(getattr(m, "replica", "bank") for m in bench.heard)
    assert by == {1: INBOX_PER_SENDER, 2: INBOX_PER_SENDER, "bank": INBOX_PER_SENDER}


def test_a_flood_costs_the_others_what_fits_the_inbox_and_no_more():
    """What a message of another sender waits for, while one sends a hundred thousand at once, is bounded."""
    waits = []
    for flood in (INBOX_PER_SENDER, 20 * INBOX_PER_SENDER):
        bench = Bench()
        for seq in range(flood):
            bench.node.queue(0, prepare(1, seq))
        bench.node.queue(0, prepare(2, 1))
        bench.run()
        ((at, _),) = [(at, m) for at, m in bench.replicas[0].heard if m.replica == 2]
        waits.append(at)
    assert waits[0] == waits[1]
    assert waits[0] < 1_000_000_000


def test_a_place_is_free_again_as_soon_as_its_message_is_done():
    bench = Bench(CHECKS)
    for seq in range(INBOX_PER_SENDER):
        bench.node.queue(0, prepare(1, seq))
    bench.node.queue(0, prepare(1, 5000))
    assert bench.recorder.dropped[FULL] == 1
    bench.run(until=3 * CHECKS.verify_ns)  # three are done
    for seq in range(6000, 6005):
        bench.node.queue(3 * CHECKS.verify_ns, prepare(1, seq))
    assert bench.recorder.dropped[FULL] == 3
    bench.run()
    assert [m.seq for m in bench.heard[-4:]] == [INBOX_PER_SENDER - 1, 6000, 6001, 6002]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 700), st.integers(0, 400_000)), min_size=1, max_size=20
    )
)
def test_nobody_ever_has_more_places_than_there_are_and_nothing_else_is_lost(bursts):
    bench, sent, now = Bench(CHECKS), Counter(), 0
    for sender, count, pause in bursts:
        now += pause
        bench.run(until=now)
        for _ in range(count):
            sent[sender] += 1
            bench.node.queue(now, prepare(sender, sent[sender]))
        waiting = Counter(work[1].replica for _, _, work in bench.work)
        assert max(waiting.values()) <= INBOX_PER_SENDER
        assert {k: v for k, v in bench.node._inbox.items() if v} == dict(waiting)
    bench.run()
    assert len(bench.heard) + bench.recorder.dropped[FULL] == sum(sent.values())
    for sender in sent:
        mine = [m.seq for m in bench.heard if m.replica == sender]
        assert mine == sorted(mine)


def test_a_crash_empties_the_inbox_and_frees_every_place():
    """What waited is gone, and it does not go on to count against its sender after the restart."""
    bench = Bench()
    for seq in range(2 * INBOX_PER_SENDER):
        bench.node.queue(0, prepare(1, seq))
    bench.node.crash()
    bench.node.recover(10)
    for seq in range(9000, 9000 + INBOX_PER_SENDER):
        bench.node.queue(10, prepare(1, seq))
    assert bench.recorder.dropped[FULL] == INBOX_PER_SENDER
    bench.run()
    assert [m.seq for m in bench.heard] == list(range(9000, 9000 + INBOX_PER_SENDER))
    assert bench.replicas[0].heard == []
    assert not any(bench.node._inbox.values())


def test_what_the_application_answers_takes_nobodys_place():
    bench = Bench()
    bench.node.process(5, (0, "an answer without a sender"))
    assert bench.heard == ["an answer without a sender"]
    assert not any(bench.node._inbox.values())


# --- copies of what is expensive to check ---


def prepared(seq: int) -> Prepared:
    votes = tuple((i, b"v%d" % i) for i in (1, 2))
    return Prepared(
        PrePrepare(0, seq, DIGEST, 0, None, b"p"), QuorumCertificate("Prepare", 0, seq, DIGEST, votes)
    )


def view_change(sender: int, view: int = 1, certificates: int = 20) -> ViewChange:
    shown = tuple(prepared(seq) for seq in range(certificates))
    return ViewChange(view, 0, None, shown, sender, b"vc %d %d" % (view, sender))


def new_view(*changes: ViewChange, signature: bytes = b"nv") -> NewView:
    return NewView(1, changes, (PrePrepare(1, 1, DIGEST, 1, None, b"p"),), 1, signature)


def checks(bench: Bench, message) -> int:
    """Signatures that the node checks for *message*, arriving now."""
    before = bench.node.cpu.busy_ns
    bench.node.queue(0, message)
    return (bench.node.cpu.busy_ns - before) // CHECKS.verify_ns


def test_a_copy_of_a_view_change_costs_one_check():
    bench, message = Bench(CHECKS), view_change(2)
    assert checks(bench, message) == 1 + 20 * 3
    assert [checks(bench, message) for _ in range(5)] == [1] * 5
    assert checks(bench, view_change(3)) == 61  # another's is no copy
    assert checks(bench, view_change(2, view=2)) == 61


def test_a_copy_of_a_new_view_costs_one_check_and_a_new_one_only_what_is_new_in_it():
    bench = Bench(CHECKS)
    first, second, third = (view_change(i) for i in (1, 2, 3))
    assert checks(bench, first) == 61
    assert checks(bench, new_view(first, second, third)) == 1 + 2 * 61 + 1
    assert [checks(bench, new_view(first, second, third)) for _ in range(3)] == [1] * 3


def test_a_copy_still_reaches_the_replica():
    """Cheap is not ignored: what it makes of a copy is the replica's business."""
    bench, message = Bench(CHECKS), view_change(2)
    for _ in range(3):
        bench.node.queue(0, message)
    bench.run()
    assert bench.heard == [message] * 3


def test_what_was_seen_is_forgotten_oldest_first_and_does_not_fill_the_memory():
    bench = Bench(CHECKS)
    for view in range(1, 3 * SEEN_KEPT):
        bench.node.queue(0, view_change(2, view, certificates=1))
        bench.run()
        assert len(bench.node._seen) <= SEEN_KEPT
    latest = 3 * SEEN_KEPT - 1
    assert checks(bench, view_change(2, latest, certificates=1)) == 1
    assert checks(bench, view_change(2, latest - SEEN_KEPT + 1, certificates=1)) == 1
    assert checks(bench, view_change(2, latest - SEEN_KEPT, certificates=1)) == 4


def test_what_was_seen_does_not_survive_a_crash():
    bench, message = Bench(CHECKS), view_change(2)
    assert [checks(bench, message) for _ in range(2)] == [61, 1]
    bench.node.crash()
    bench.node.recover(1)
    assert checks(bench, message) == 61


def test_a_message_that_finds_no_place_is_not_looked_into():
    """Else the next copy would pass for checked although nobody ever did."""
    bench, message = Bench(CHECKS), view_change(2)
    for seq in range(INBOX_PER_SENDER):
        bench.node.queue(0, prepare(2, seq))
    assert checks(bench, message) == 0
    bench.run()
    assert checks(bench, message) == 61


@pytest.mark.parametrize(
    "message", [prepare(2, 1), Request("bank", 1, b"x", b"s"), Status(0, False, 0, 0, 0, 1, 2, b"s")]
)
def test_everything_else_costs_the_same_each_time(message):
    bench = Bench(MEASURED)
    for copies in range(1, 4):
        bench.node.queue(0, message)
        assert bench.node.cpu.busy_ns == copies * MEASURED.receive(size(message), 1)
