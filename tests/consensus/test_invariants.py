"""The checker fires on every one of its invariants, and is silent on honest input: one that never fires is worth
nothing."""

from __future__ import annotations

import pytest
from msgspec import structs
from replicas import Network
from tradebft.consensus import invariants
from tradebft.consensus.interface import Broadcast, Committed
from tradebft.consensus.invariants import NAMES, Checker
from tradebft.consensus.membership import Membership
from tradebft.consensus.messages import NULL_BATCH, Commit, PrePrepare, Status


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


def watched(net):
    """A checker that sees everything that the replicas of *net* broadcast and commit from now on."""
    checker = Checker(net.config, net.keyring, range(4))

    def watch(replica, effect):
        if isinstance(effect, Broadcast):
            checker.sent(net.now, replica, effect.message)
        elif isinstance(effect, Committed):
            checker.committed(net.now, replica, effect)

    net.watch = watch
    return checker


def test_silent_on_a_whole_honest_run():
    net = Network(4, checkpoint_interval=2, log_window=4)
    checker = watched(net)
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


def test_what_came_before_is_known_to_a_checker_that_comes_later(net, checker):
    """Another engine did the first two; one replica is behind."""
    done = [commit(net, seq, net.batch(seq)) for seq in (1, 2)]
    checker.resume({0: 2, 1: 2, 2: 2, 3: 1}, [(block, bytes([block.seq]) * 32) for block in done])
    checker.committed(1, 3, done[1])
    checker.executed(1, 3, 2, b"\2" * 32)
    checker.committed(2, 0, commit(net, 3, net.batch(3)))
    assert checker.violations == []
    checker.committed(3, 1, commit(net, 4, net.batch(4), fresh=()))
    checker.committed(4, 3, commit(net, 3, net.batch(8)))
    checker.committed(5, 1, commit(net, 5, net.batch(1, time_ns=1)))
    checker.executed(6, 2, 2, b"3" * 32)
    assert fired(checker) == ["total-order", "agreement", "exactly-once", "state-roots"]


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
    # Two Commits say besides that two batches were prepared.
    assert fired(checker) == ["one-vote"] + ["prepared-unique"] * (kind == "commit")


def test_a_certificate_counts_only_what_was_sent(net, checker):
    """A Prepare of 1 that is taken for its Commit: the certificate would hold if signatures did not name the kind."""
    batch = net.batch(1)
    for i in (1, 2, 3):
        checker.sent(1, i, net.prepare(i, batch.digest))
    for i in (0, 2):
        checker.sent(2, i, net.commit(i, batch.digest))
    effect = commit(net, 1, batch)
    assert {voter for voter, _ in effect.decided.certificate.votes} == {0, 1, 2}
    checker.committed(3, 0, effect)
    assert fired(checker) == ["certificates"]
    assert "counts a Commit that 1 never sent" in checker.violations[0].what


def test_a_commit_that_is_sent_again_to_one_is_sent(net, checker):
    batch = net.batch(1)
    for i in (1, 2, 3):
        checker.sent(1, i, net.prepare(i, batch.digest))
    checker.repeated(2, 1, net.commit(1, batch.digest))
    checker.repeated(2, 2, net.commit(2, batch.digest))
    checker.committed(3, 0, commit(net, 1, batch))
    assert checker.violations == []
    checker.repeated(4, 1, net.commit(1, net.batch(2).digest))
    assert fired(checker) == ["one-vote"]


def test_one_vote_holds_for_each_view_sequence_and_kind_apart(net, checker):
    a, b = net.batch(1).digest, net.batch(2).digest
    for message in (net.prepare(1, a), net.prepare(1, b, seq=2), net.commit(1, b), net.prepare(1, b, view=1)):
        checker.sent(1, 1, message)
    assert checker.violations == []


def test_votes_of_many_views_for_one_window_are_seldom_looked_through(monkeypatch):
    """Nothing commits, so that every vote is kept: to look for old ones at each vote would take the square of a storm.
    Once batches commit again, room for them is small again.
    """
    monkeypatch.setattr(invariants, "_PRUNE_EVERY", 8)
    net = Network(4, checkpoint_interval=2, log_window=4)
    checker = Checker(net.config, net.keyring, range(4))
    votes, times = checker._votes[1], 0
    for view in range(1000):
        checker.sent(1, 1, net.prepare(1, NULL_BATCH.digest, view=view))
        times, votes = times + (checker._votes[1] is not votes), checker._votes[1]
    assert len(votes) == 1000
    assert 4 <= times <= 10
    for seq in range(1, 3000):
        checker.committed(1, 1, commit(net, seq, NULL_BATCH))
        checker.sent(1, 1, net.prepare(1, NULL_BATCH.digest, seq=seq, view=999))
    assert len(checker._votes[1]) <= 4 * 4 + 8
    assert checker.violations == []


def test_state_roots_in_checkpoints(net, checker):
    for replica in (1, 2):
        checker.sent(1, replica, net.checkpoint(replica, 8, b"a" * 32))
    assert checker.violations == []
    checker.sent(1, 3, net.checkpoint(3, 8, b"b" * 32))
    assert fired(checker) == ["state-roots"]


def test_prepared_unique(net, checker):
    a, b = net.batch(1).digest, net.batch(2).digest
    for replica, vote in [(1, net.commit(1, a)), (2, net.commit(2, a)), (2, net.commit(2, b, view=1))]:
        checker.sent(1, replica, vote)
    assert checker.violations == []
    checker.sent(2, 3, net.commit(3, b))
    assert fired(checker) == ["prepared-unique"]
    assert (checker.violations[0].at_ns, checker.violations[0].replica) == (2, 3)


def test_prepared_unique_holds_for_what_a_view_change_shows(net, checker):
    checker.sent(1, 1, net.commit(1, b"a" * 32))
    checker.sent(2, 2, net.view_change(2, prepared=[net.prepared(1, b"a" * 32)]))
    assert checker.violations == []
    checker.sent(3, 3, net.view_change(3, prepared=[net.prepared(1, b"b" * 32)]))
    assert fired(checker) == ["prepared-unique"]


def later_votes(net, value):
    changes = [net.view_change(i, prepared=[net.prepared(1, value)]) for i in (1, 2, 3)]
    yield 1, net.pre_prepare(net.batch(1 if value == net.batch(1).digest else 2), view=1)
    yield 2, net.prepare(2, value, view=1)
    yield 3, net.commit(3, value, view=1)
    yield 1, net.new_view(changes, [(1, value)])


@pytest.mark.parametrize("which", range(4))
def test_view_change_preserves(net, checker, which):
    """Whichever comes first: that an earlier view decided, or the vote of a later one."""
    kept, lost = net.batch(1), net.batch(2)
    replica, vote = list(later_votes(net, kept.digest))[which]
    checker.committed(1, 0, commit(net, 1, kept))
    checker.sent(2, replica, vote)
    assert checker.violations == []
    replica, vote = list(later_votes(net, lost.digest))[which]
    checker.sent(3, replica, vote)
    assert "view-change-preserves" in fired(checker)

    late = Checker(net.config, net.keyring, range(4))
    late.sent(1, replica, vote)
    assert late.violations == []
    late.committed(2, 0, commit(net, 1, kept))
    assert fired(late) == ["view-change-preserves"]
    assert late.violations[0].replica == replica


def test_view_change_preserves_what_a_new_view_must_not_leave_out(net, checker):
    changes = [net.view_change(i) for i in (1, 2, 3)]
    checker.sent(1, 1, net.new_view(changes))
    assert checker.violations == []
    checker = Checker(net.config, net.keyring, range(4))
    checker.committed(1, 0, commit(net, 1, net.batch(1)))
    checker.sent(2, 1, net.new_view(changes))
    assert fired(checker) == ["view-change-preserves"]
    # What a stable checkpoint covers need not be carried over.
    checker = Checker(net.config, net.keyring, range(4))
    checker.committed(1, 0, commit(net, 1, net.batch(1)))
    checker.sent(2, 1, net.new_view([net.view_change(i, stable=i // 3) for i in (1, 2, 3)]))
    assert checker.violations == []


def test_view_change_preserves_says_nothing_about_views_up_to_the_decision(net, checker):
    lost, kept = net.batch(2), net.batch(1)
    checker.sent(1, 1, net.pre_prepare(lost, view=1))
    checker.sent(2, 2, net.prepare(2, lost.digest, view=1))
    for replica, view in ((0, 3), (1, 2)):  # one of them heard of the earlier decision only later
        checker.committed(3, replica, Committed(1, net.decided(1, kept, view=view), ()))
    checker.sent(4, 3, net.prepare(3, lost.digest, view=2))  # its primary told others something else
    assert checker.violations == []
    checker.sent(5, 3, net.prepare(3, lost.digest, view=3))
    assert fired(checker) == ["view-change-preserves"]


def steps_back(net):
    change, a, first = net.view_change(1, view=2), b"a" * 32, 1 << 32
    yield "a vote in a view that was left", change, net.prepare(1, a, view=1)
    yield "a proposal in a view that was left", change, net.pre_prepare(net.batch(1), view=1)
    yield "a view change to an earlier view", change, net.view_change(1, view=1)
    yield "a commit before the view voted in", net.prepare(1, a, view=2), net.commit(1, a, view=1)
    yield "a view of an epoch that is over", net.prepare(1, a, view=first), net.commit(1, a, 9, first - 1)
    yield "the stable checkpoint", net.view_change(1, stable=8), net.view_change(1, view=2, stable=7)
    at = Status(1, False, 0, 8, 9, 1, 1)
    yield "the view in a status", at, structs.replace(at, view=0)
    yield "the stable checkpoint in a status", at, structs.replace(at, stable=7)
    yield "the executions in a status", at, structs.replace(at, executed=8)


@pytest.mark.parametrize("case", range(9))
def test_monotone(net, checker, case):
    _, before, after = list(steps_back(net))[case]
    checker.sent(1, 1, before)
    checker.sent(1, 2, structs.replace(after, replica=2))  # another one was not there yet
    assert "monotone" not in fired(checker)
    checker.sent(2, 1, after)
    assert "monotone" in fired(checker)
    assert {v.replica for v in checker.violations if v.invariant == "monotone"} == {1}


def test_monotone_lets_a_view_change_be_repeated_as_it_was(net, checker):
    change = net.view_change(1)
    for message in (change, Status(1, True, 2, 8, 9, 1, 1), change, net.prepare(1, b"a" * 32, view=1)):
        checker.sent(1, 1, message)
    assert checker.violations == []


def ill_formed_changes(net):
    a = b"a" * 32

    def change(*prepared, **more):
        return net.view_change(3, view=2, prepared=prepared, **more)

    yield change(net.prepared(1, a, voters=[1]))
    yield change(net.prepared(1, a, voters=[1, 1]))
    yield change(net.prepared(1, a, voters=[0, 1]))
    yield change(structs.replace(net.prepared(1, a), prepares=net.certificate("Commit", 1, a, [1, 2])))
    yield change(structs.replace(net.prepared(1, a), prepares=net.certificate("Prepare", 2, a, [1, 2])))
    yield change(structs.replace(net.prepared(1, a), pre_prepare=net.signed(PrePrepare(0, 1, a, 1))))
    yield change(structs.replace(net.prepared(1, a), pre_prepare=PrePrepare(0, 1, a, 0, None, b"x" * 64)))
    yield change(net.prepared(1, a, view=2))
    yield change(net.prepared(1, a), net.prepared(2, a, voters=[1, 1]))
    yield change(net.prepared(1, a), net.prepared(1, a))
    yield change(net.prepared(8, a), stable=8)
    yield change(stable=8, checkpoint=net.certificate("Checkpoint", 8, a, [0, 1]))
    yield change(stable=8, checkpoint=net.certificate("Checkpoint", 4, a, [0, 1, 2]))
    yield structs.replace(change(stable=8), checkpoint=None)
    yield net.view_change(3, view=1 << 32)


@pytest.mark.parametrize("case", range(15))
def test_certificate_well_formed(net, checker, case):
    checker.sent(1, 2, net.view_change(2, prepared=[net.prepared(1, b"a" * 32), net.prepared(2, b"a" * 32)]))
    checker.sent(1, 1, net.view_change(1, prepared=[net.prepared(9, b"a" * 32)], stable=8))
    assert checker.violations == []
    checker.sent(2, 3, list(ill_formed_changes(net))[case])
    assert fired(checker) == ["certificate-well-formed"]


def ill_formed_openings(net):
    changes = [net.view_change(i) for i in (1, 2, 3)]
    yield net.new_view(changes[:2])
    yield net.new_view([*changes[:2], changes[1]])
    yield net.new_view([*changes[:2], net.view_change(3, view=2)])
    yield net.new_view([*changes[:2], structs.replace(changes[2], signature=b"x" * 64)])
    yield net.new_view([*changes, net.view_change(0), structs.replace(changes[0], replica=9)])
    yield net.new_view(changes, replica=2)
    yield net.new_view(changes, view=1 << 32)


@pytest.mark.parametrize("case", range(7))
def test_certificate_well_formed_in_a_new_view(net, checker, case):
    checker.sent(1, 1, net.new_view([net.view_change(i) for i in (1, 2, 3)]))
    assert checker.violations == []
    message = list(ill_formed_openings(net))[case]
    checker.sent(2, message.replica, message)
    assert fired(checker) == ["certificate-well-formed"]


@pytest.mark.parametrize("case", range(7))
def test_certificate_well_formed_in_a_new_view_that_is_believed(net, checker, case):
    """Whoever sent it: an honest replica must not act on it."""
    checker.opened(1, 2, net.new_view([net.view_change(i) for i in (1, 2, 3)]))
    assert checker.violations == []
    checker.opened(2, 2, list(ill_formed_openings(net))[case])
    assert fired(checker) == ["certificate-well-formed"]


def test_certificate_well_formed_by_members_only():
    """Somebody whose key is known, and who is no member yet, makes no quorum."""
    net = Network(4, spare=1)
    checker = Checker(net.config, net.keyring, range(4))
    checker.sent(1, 1, net.view_change(1, view=2, prepared=[net.prepared(1, b"a" * 32, voters=[1, 4])]))
    checker.sent(2, 1, net.new_view([net.view_change(i, view=5) for i in (1, 2, 3, 4)], view=5))
    assert fired(checker) == ["certificate-well-formed"] * 2


def test_certificate_well_formed_by_the_keys_and_members_of_its_epoch():
    net = Network(4, spare=1, later_keys=1)
    first, members = 1 << 32, ((0, b""), (1, b""), (2, net.keys[2][1]), (3, b""), (4, b""))
    checker = Checker(net.config, net.keyring, range(4))
    checker.entered(1, 1, Membership(1, 8, members))
    changes = [net.view_change(i, view=first + 1, stable=8) for i in (0, 1, 3, 4)]  # 8 needs no proof there
    checker.sent(2, 1, net.new_view(changes, [], first + 1, 1))
    assert checker.violations == []
    with_old_key = net.view_change(2, first + 1, stable=8)
    checker.sent(3, 1, net.new_view([*changes, with_old_key], [], first + 1, 1))
    checker.sent(4, 2, net.new_view(changes, [], first + 1, 2))
    of_the_epoch_before = [net.prepared(9, b"a" * 32, voters=[1, 3, 4])]
    checker.sent(5, 3, net.view_change(3, first + 1, of_the_epoch_before, stable=8))
    assert fired(checker) == ["certificate-well-formed"] * 3


def test_silent_on_an_honest_change_of_view():
    """The primary goes in the middle of a batch; the others carry it over, and go on."""
    net = Network(4, checkpoint_interval=2, log_window=4)
    checker = watched(net)
    for sequence in (1, 2, 3):
        net.step(0, net.request(sequence))
        net.settle()
    net.step(0, net.request(4))
    while net.bag:  # everybody prepares, nobody learns that the others did
        net.bag = [(to, message) for to, message in net.bag if type(message) is not Commit]
        if net.bag:
            net.deliver()
    for i in (1, 2, 3):
        net.fire(i, "view-change")
    net.settle(without=[0])
    assert {net.replicas[i].view for i in (1, 2, 3)} == {1}
    assert {len(net.blocks[i]) for i in (1, 2, 3)} == {4}
    for i in (1, 2, 3):  # and come back from their disks
        net.restart(i)
    net.serve([5, 6, 7], without=[0])
    assert {len(net.blocks[i]) for i in (1, 2, 3)} == {7}
    assert checker.violations == []


def test_what_is_far_behind_is_forgotten(net):
    """Nothing that the checker keeps grows with the length of the run."""
    checker = Checker(net.config, net.keyring, [1])
    lengths = []
    for seq in range(1, 3 * 4096 + 1):
        batch = structs.replace(net.batch(), timestamp_ns=seq)
        for vote in (net.prepare(1, batch.digest, seq, 1), net.commit(1, batch.digest, seq, 1)):
            checker.sent(1, 1, vote)
        checker.committed(1, 1, Committed(seq, net.decided(seq, batch, view=1), ()))
        if seq % 4096 == 0:
            views = checker._views
            lengths.append([len(kept) for kept in (views._final, views._prepared, views._voted)])
    assert checker.violations == []
    assert lengths == [[4 * net.config.log_window] * 3] * 3


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
