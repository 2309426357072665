"""Mistakes that real PBFT implementations made: certificates and the NewView (5, 6).

Each breaks a rule of docs/protocol.md.
"""

from __future__ import annotations

import pytest
from mistakes import backup
from msgspec import structs
from replicas import of, sent
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import (
    Evidence,
)
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Fetch,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)

# --- 5: certificates are verified, the highest view wins ---


def wrong_view_changes():
    def cut(net, d):
        return [net.prepared(1, d, voters=[1])]

    return {
        "too few Prepares": cut,
        "one Prepare twice": lambda net, d: [net.prepared(1, d, voters=[1, 1])],
        "a Prepare by the primary": lambda net, d: [net.prepared(1, d, voters=[0, 1])],
        "Prepares that nobody signed": lambda net, d: [
            structs.replace(
                net.prepared(1, d),
                prepares=QuorumCertificate("Prepare", 0, 1, d, ((1, bytes(64)), (2, bytes(64)))),
            )
        ],
        "Commits in their place": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Commit", 1, d, [1, 2]))
        ],
        "Prepares for another digest": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Prepare", 1, NULL_DIGEST, [1, 2]))
        ],
        "Prepares of another view": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Prepare", 1, d, [1, 2], view=1))
        ],
        "a proposal that nobody signed": lambda net, d: [
            structs.replace(net.prepared(1, d), pre_prepare=PrePrepare(0, 1, d, 0, None, bytes(64)))
        ],
        "a proposal by a backup": lambda net, d: [
            structs.replace(net.prepared(1, d), pre_prepare=net.signed(PrePrepare(0, 1, d, 3)))
        ],
        "the view that it asks for": lambda net, d: [net.prepared(1, d, view=5)],
        "one sequence twice": lambda net, d: [net.prepared(1, d), net.prepared(1, d)],
        "sequences out of order": lambda net, d: [net.prepared(2, d), net.prepared(1, d)],
        "a sequence beyond its window": lambda net, d: [net.prepared(5, d)],
        "a sequence below its window": lambda net, d: [net.prepared(0, d)],
    }


@pytest.mark.parametrize("what", wrong_view_changes())
def test_5_a_view_change_does_not_count_when_it_shows(what):
    """Mistake 5: prepared certificates not verified in ViewChange."""
    net, me = backup(4, me=1, checkpoint_interval=2, log_window=4), 1
    change = net.view_change(0, view=5, prepared=wrong_view_changes()[what](net, net.batch(1).digest))
    effects = net.step(me, change)
    assert [e.culprit for e in of(Evidence, effects)] == [0]
    # Nor inside a NewView.
    honest = [net.view_change(i, view=5) for i in (1, 3)]
    message = net.new_view([*honest, change], view=5)
    net = backup(4, me=2, checkpoint_interval=2, log_window=4)
    assert [e.culprit for e in of(Evidence, net.step(2, message))] == [1]
    assert net.replicas[2].view == 0


@pytest.mark.parametrize("voters", [None, [0, 1], [0, 0, 1]])
def test_5_a_stable_checkpoint_is_not_believed_without_a_quorum(voters):
    """Mistake 5, for the checkpoint certificate C."""
    net = backup(4, me=1, checkpoint_interval=2, log_window=4)
    proof = None if voters is None else net.certificate("Checkpoint", 2, b"s" * 32, voters)
    change = net.signed(ViewChange(1, 2, proof, (), 0))
    assert of(Evidence, net.step(1, change))
    other = net.signed(ViewChange(1, 4, net.stable(2), (), 3))
    assert of(Evidence, net.step(1, other))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_5_the_prepared_certificate_of_the_highest_view_wins(order):
    """Mistake 5: or the lowest instead of the highest view wins in NewView."""
    net, me = backup(4, me=3), 3
    old, new = net.batch(1).digest, net.batch(2).digest
    changes = [
        net.view_change(0, 3, [net.prepared(1, old, view=0)]),
        net.view_change(1, 3, [net.prepared(1, new, view=2)]),
        net.view_change(2, 3, [net.prepared(1, old, view=1)]),
    ]
    effects = []
    for k in order:
        effects += net.step(me, changes[k])
    (opened,) = sent(
        NewView, effects
    )  # the leader of view 3 joined after two, and has its quorum with itself
    assert [(p.seq, p.digest) for p in opened.proposals] in ([(1, new)], [(1, old)])
    shown = {change.replica for change in opened.view_changes}
    assert opened.proposals[0].digest == (new if 1 in shown else old)
    message = net.new_view(changes, view=4, carried=[(1, new)])
    assert of(Evidence, net.step(me, message))  # ViewChanges for another view
    for carried, right in (([(1, old)], False), ([(1, new)], True)):
        other = backup(4, me=0)
        six = [net.view_change(i, 6, c.prepared) for i, c in enumerate(changes, 1)]
        effects = other.step(0, net.new_view(six, carried, view=6))
        assert bool(sent(Prepare, effects)) is right


# --- 6: O is recomputed ---


def carried_over(net):
    """ViewChanges for view 1 whose outcome is: stable 2, then 3, null, 5."""
    a, b = net.batch(1).digest, net.batch(2).digest
    changes = [
        net.view_change(1, prepared=[net.prepared(1, b), net.prepared(3, a)]),
        net.view_change(0, prepared=[net.prepared(5, b)], stable=2),
        net.view_change(3),
    ]
    return changes, [(3, a), (4, NULL_DIGEST), (5, b)]


def wrong_proposals():
    return {
        "one is missing": lambda right: right[:-1],
        "one is more": lambda right: [*right, (6, right[0][1])],
        "another digest": lambda right: [(3, right[2][1]), *right[1:]],
        "a gap instead of null": lambda right: [right[0], right[2]],
        "something instead of null": lambda right: [right[0], (4, right[0][1]), right[2]],
        "from a stale checkpoint": lambda right: [(1, right[2][1]), (2, NULL_DIGEST), *right],
        "out of order": lambda right: right[::-1],
        "nothing": lambda right: [],
    }


@pytest.mark.parametrize("how", wrong_proposals())
def test_6_a_new_view_is_refused_when_its_proposals_are_wrong(how):
    """Mistake 6: NewView's O trusted instead of recomputed; gaps not filled with null; a stale h."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, right = carried_over(net)
    effects = net.step(me, net.new_view(changes, wrong_proposals()[how](right)))
    assert [e.culprit for e in of(Evidence, effects)] == [1]
    assert sent(Prepare, effects) == []
    assert net.replicas[me].view == 0


def test_6_the_right_one_is_accepted_with_null_in_the_gap_and_the_highest_checkpoint():
    """Mistake 6: the new view starts at the highest stable checkpoint shown."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, right = carried_over(net)
    effects = net.step(me, net.new_view(changes))
    assert [(p.seq, p.digest) for p in sent(Prepare, effects)] == right
    assert net.replicas[me].low == 2
    assert {(f.seq, f.digest) for f in sent(Fetch, effects)} == {right[0], right[2]}


def wrong_new_views():
    return {
        "by another leader": lambda net, c: net.new_view(c, replica=3),
        "with too few ViewChanges": lambda net, c: net.new_view(c[:2]),
        "with one ViewChange twice": lambda net, c: net.new_view([*c[:2], c[1]]),
        "with a ViewChange for another view": lambda net, c: net.new_view([*c[:2], net.view_change(3, 5)]),
        "with a ViewChange that nobody signed": lambda net, c: net.new_view(
            [*c[:2], structs.replace(c[2], signature=bytes(64))]
        ),
        "with proposals that nobody signed": lambda net, c: net.signed(
            structs.replace(
                net.new_view(c),
                proposals=tuple(structs.replace(p, signature=bytes(64)) for p in net.new_view(c).proposals),
            )
        ),
        "with proposals for another view": lambda net, c: net.signed(
            structs.replace(
                net.new_view(c),
                proposals=tuple(net.signed(structs.replace(p, view=5)) for p in net.new_view(c).proposals),
            )
        ),
    }


@pytest.mark.parametrize("how", wrong_new_views())
def test_6_a_new_view_is_refused(how):
    """Mistake 6: who opens it, with whose ViewChanges, and for which view."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, _ = carried_over(net)
    effects = net.step(me, wrong_new_views()[how](net, changes))
    assert of(Evidence, effects)
    assert net.replicas[me].view == 0
