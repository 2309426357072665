"""The checker fires on every one of its invariants, and is silent on honest input: one that never fires is worth
nothing."""

from __future__ import annotations

import pytest
from msgspec import structs
from replicas import Network
from tradebft.consensus.interface import Broadcast, Committed
from tradebft.consensus.invariants import NAMES, Checker
from tradebft.consensus.membership import Membership
from tradebft.consensus.messages import NULL_BATCH


@pytest.fixture
def net():
    return Network(4)


@pytest.fixture
def checker(net):
    return Checker(net.config, net.keyring, range(4))


def commit(net, seq, batch, fresh=None):
    return Committed(seq, net.decided(seq, batch), batch.requests if fresh is None else fresh)


def fired(checker):
    return [violation.invariant for violation in checker.violations]


def test_silent_on_a_whole_honest_run():
    net = Network(4, checkpoint_interval=2, log_window=4)
    checker = Checker(net.config, net.keyring, range(4))

    def watch(replica, effect):
        if isinstance(effect, Broadcast):
            checker.sent(net.now, replica, effect.message)
        elif isinstance(effect, Committed):
            checker.committed(net.now, replica, effect)

    net.watch = watch
    for sequence in range(1, 12):
        net.step(0, net.request(sequence))
        net.settle()
        for i in range(4):
            checker.executed(net.now, i, sequence, net.roots[i])
            checker.log_size(net.now, i, len(net.replicas[i].slots))
    assert len(net.blocks[0]) == 11
    assert checker.violations == []


def test_agreement(net, checker):
    checker.committed(1, 0, commit(net, 1, net.batch(1)))
    checker.committed(2, 1, commit(net, 1, net.batch(2)))
    assert fired(checker) == ["agreement"]
    assert (checker.violations[0].at_ns, checker.violations[0].replica) == (2, 1)


@pytest.mark.parametrize("seqs", [[2], [1, 1], [1, 3], [1, 2, 1]])
def test_total_order(net, checker, seqs):
    for seq in seqs:
        checker.committed(1, 0, commit(net, seq, net.batch(seq), fresh=()))
    assert "total-order" in fired(checker)


def test_validity(net, checker):
    forged = structs.replace(net.request(1), operation=b"pay somebody else")
    batch = structs.replace(net.batch(1), requests=(forged,))
    checker.committed(1, 0, commit(net, 1, batch))
    assert fired(checker) == ["validity"]


def test_exactly_once(net, checker):
    checker.committed(1, 0, commit(net, 1, net.batch(1)))
    checker.committed(2, 0, commit(net, 2, net.batch(1, time_ns=1)))
    assert fired(checker) == ["exactly-once"]


def test_exactly_once_knows_distant_sequences_apart(net, checker):
    for seq, sequence in enumerate([700, 3, 701, 64, 8, 7, 5000], 1):
        checker.committed(seq, 0, commit(net, seq, net.batch(sequence)))
    assert checker.violations == []


def test_exactly_once_costs_nothing_for_numbers_that_a_client_leaves_out(net, checker):
    """A faulty client and a faulty primary can have any 64-bit number executed; the checker must outlive it."""
    for seq, sequence in enumerate([1, 2**63, 2**64 - 1], 1):
        checker.committed(seq, 0, commit(net, seq, net.batch(sequence)))
    assert checker.violations == []
    checker.committed(4, 0, commit(net, 4, net.batch(2**63, time_ns=1)))
    assert fired(checker) == ["exactly-once"]


def test_state_roots(checker):
    checker.executed(1, 0, 1, b"a" * 32)
    checker.executed(1, 1, 1, b"a" * 32)
    assert checker.violations == []
    checker.executed(1, 2, 1, b"b" * 32)
    assert fired(checker) == ["state-roots"]


def wrong_certificates():
    yield "too few", lambda n, d: n.certificate("Commit", 1, d, [0, 1])
    yield "twice the same", lambda n, d: n.certificate("Commit", 1, d, [0, 1, 1])
    yield "Prepares", lambda n, d: n.certificate("Prepare", 1, d, [0, 1, 2])
    yield "another sequence", lambda n, d: n.certificate("Commit", 2, d, [0, 1, 2])
    yield "another digest", lambda n, d: n.certificate("Commit", 1, NULL_BATCH.digest, [0, 1, 2])
    yield (
        "another view's signatures",
        lambda n, d: structs.replace(n.certificate("Commit", 1, d, [0, 1, 2]), view=1),
    )


@pytest.mark.parametrize(("what", "make"), list(wrong_certificates()))
def test_certificates(net, checker, what, make):
    batch = net.batch(1)
    effect = commit(net, 1, batch)
    wrong = structs.replace(effect.decided, certificate=make(net, batch.digest))
    checker.committed(1, 0, structs.replace(effect, decided=wrong))
    assert fired(checker) == ["certificates"]


@pytest.mark.parametrize("kind", ["prepare", "commit", "pre_prepare", "checkpoint"])
def test_one_vote(net, checker, kind):
    a, b = net.batch(1), net.batch(2)
    make = {
        "prepare": lambda batch: net.prepare(1, batch.digest),
        "commit": lambda batch: net.commit(1, batch.digest),
        "pre_prepare": lambda batch: net.pre_prepare(batch, replica=1),
        "checkpoint": lambda batch: net.checkpoint(1, 1, batch.digest),
    }[kind]
    checker.sent(1, 1, make(a))
    checker.sent(2, 1, make(a))
    assert checker.violations == []
    checker.sent(3, 1, make(b))
    assert fired(checker) == ["one-vote"]


def test_one_vote_holds_for_each_view_sequence_and_kind_apart(net, checker):
    a, b = net.batch(1).digest, net.batch(2).digest
    for message in (net.prepare(1, a), net.prepare(1, b, seq=2), net.prepare(1, b, view=1), net.commit(1, b)):
        checker.sent(1, 1, message)
    assert checker.violations == []


def test_state_roots_in_checkpoints(net, checker):
    for replica in (1, 2):
        checker.sent(1, replica, net.checkpoint(replica, 8, b"a" * 32))
    assert checker.violations == []
    checker.sent(1, 3, net.checkpoint(3, 8, b"b" * 32))
    assert fired(checker) == ["state-roots"]


def test_bounded_log(net, checker):
    checker.log_size(1, 0, net.config.log_window)
    assert checker.violations == []
    checker.log_size(1, 0, net.config.log_window + 1)
    assert fired(checker) == ["bounded-log"]


def test_one_membership(checker):
    checker.entered(1, 0, Membership(1, 8, ((0, b""), (1, b""), (2, b""))))
    checker.entered(2, 1, Membership(1, 8, ((0, b""), (1, b""), (2, b""))))
    assert fired(checker) == []
    checker.entered(3, 2, Membership(1, 16, ((0, b""), (1, b""), (2, b""))))
    assert fired(checker) == ["one-membership"]


def test_liveness(checker):
    checker.stuck(1, 3)
    assert fired(checker) == ["liveness"]


def test_what_byzantine_members_do_is_not_held_against_the_protocol(net):
    checker = Checker(net.config, net.keyring, [1, 2, 3])
    checker.sent(1, 0, net.prepare(0, b"a" * 32))
    checker.sent(1, 0, net.prepare(0, b"b" * 32))
    checker.committed(1, 0, commit(net, 5, net.batch(1)))
    checker.executed(1, 0, 1, b"x")
    checker.log_size(1, 0, 10**9)
    assert checker.violations == []


def test_every_invariant_has_its_test():
    tested = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert set(NAMES) <= tested
