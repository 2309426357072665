"""What a signature binds: the kind of message, the chain, the sender, and every field that anybody acts on."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from replicas import Network
from tradebft.consensus.membership import Committee, EpochProof, Membership, Standing, genesis
from tradebft.consensus.messages import (
    KINDS,
    Checkpoint,
    Chunk,
    Commit,
    EpochChange,
    Fetch,
    FetchChunk,
    FetchReply,
    NewView,
    Prepare,
    PrePrepare,
    Reply,
    Request,
    SnapshotHead,
    Status,
    ViewChange,
    authentic,
    result_digest,
)
from tradebft.consensus.pbft.view_change import fault_of_new_view, fault_of_view_change
from tradebft.consensus.snapshot import manifest_of

NET = Network(running=[])
D, OTHER = b"d" * 32, b"e" * 32


def one_of_each() -> list[Any]:
    """One message of every kind, signed by replica 2 or by the bank."""
    block = NET.decided(1, NET.batch(1))
    manifest = manifest_of(128, D, Standing(genesis(4)), [b"table"], [b"state"])
    change = NET.view_change(2, prepared=[NET.prepared(1, D)])
    return [
        NET.request(1),
        NET.pre_prepare(NET.batch(1), view=2),
        NET.prepare(2, D),
        NET.commit(2, D),
        NET.checkpoint(2, 128, D),
        NET.signed(Reply(0, "bank", 1, 2, 1, result_digest(b"paid"), b"paid")),
        change,
        NET.signed(NewView(2, (change,), (NET.signed(PrePrepare(2, 1, D, 2)),), 2)),
        NET.signed(Status(1, True, 3, 0, 5, 9, 2)),
        NET.signed(Fetch(1, D, 2)),
        NET.signed(FetchReply((block,), (NET.batch(2),), None, 2)),
        NET.signed(SnapshotHead(manifest, NET.stable(128, manifest.digest), 2)),
        NET.signed(FetchChunk(128, 0, 2)),
        NET.signed(Chunk(128, 0, b"table", 2)),
        NET.signed(EpochChange((EpochProof(NET.stable(128), D, Standing(genesis(4))),), 2)),
    ]


MESSAGES = {type(message).__name__: message for message in one_of_each()}
each = pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)


def holds(message: Any, chain_id: bytes = NET.config.chain_id) -> bool:
    return authentic(message, chain_id, NET.keyring)


def test_every_kind_is_here():
    assert set(MESSAGES) == {kind.__name__ for kind in KINDS}


@each
def test_a_signature_holds_on_its_own_chain_only(message):
    assert holds(message)
    assert not holds(message, b"another chain")
    assert not holds(message, NET.config.chain_id + b"2")


@each
def test_a_signature_holds_for_its_sender_only(message):
    sender = "client" if isinstance(message, Request) else "replica"
    for other in ("shop",) if isinstance(message, Request) else (0, 1, 3, 4, -2):
        assert not holds(structs.replace(message, **{sender: other}))


CHANGES = {
    Request: {"sequence": 2, "operation": b"steal"},
    PrePrepare: {"view": 6, "seq": 2, "digest": OTHER},
    Prepare: {"view": 1, "seq": 2, "digest": OTHER},
    Commit: {"view": 1, "seq": 2, "digest": OTHER},
    Checkpoint: {"seq": 256, "digest": OTHER, "epoch": 1},
    Reply: {"view": 1, "client": "shop", "sequence": 2, "seq": 2, "result_digest": OTHER},
    ViewChange: {"view": 2, "stable": 1, "checkpoint": NET.stable(128), "prepared": ()},
    NewView: {"view": 6, "view_changes": (), "proposals": ()},
    Status: {"view": 2, "changing": False, "held": 7, "stable": 1, "executed": 6, "nonce": 10},
    Fetch: {"seq": 2, "digest": OTHER},
    FetchReply: {"blocks": (), "bodies": (), "checkpoint": NET.stable(128)},
    SnapshotHead: {
        "manifest": manifest_of(256, D, Standing(genesis(4)), [b"table"], [b"state"]),
        "certificate": NET.stable(128, OTHER),
        "epochs": (EpochProof(NET.stable(64), D, Standing(genesis(4))),),
    },
    EpochChange: {"proofs": ()},
    FetchChunk: {"seq": 256, "index": 1},
    Chunk: {"seq": 256, "index": 1, "data": b"other"},
}


@each
def test_a_signature_binds_every_field_that_anybody_acts_on(message):
    """Not bound, and proving themselves: a PrePrepare's batch and a reply's result (by digest), what was fetched."""
    for field, other in CHANGES[type(message)].items():
        assert not holds(structs.replace(message, **{field: other})), field


def test_a_signature_for_one_kind_serves_no_other():
    """Prepare, Commit and the rest have the same fields; a vote of one kind must never count as another."""
    votes = [
        PrePrepare(0, 1, D, 2),
        Prepare(0, 1, D, 2),
        Commit(0, 1, D, 2),
        Checkpoint(1, D, 2),
        Fetch(1, D, 2),
    ]
    for signed in votes:
        signature = NET.signed(signed).signature
        assert [holds(structs.replace(used, signature=signature)) for used in votes] == [
            used is signed for used in votes
        ]


@each
@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(63), bytes(10_000)])
def test_no_signature_is_no_signature(message, signature):
    assert not holds(structs.replace(message, signature=signature))


# --- a verdict on a change of view stays with the message ---


class Counting:
    """A keyring that counts what it is asked, and where *deaf* finds nothing right."""

    def __init__(self, deaf: bool = False) -> None:
        self.asked, self.deaf = 0, deaf

    def verify(self, *what: Any) -> bool:
        self.asked += 1
        return not self.deaf and NET.keyring.verify(*what)

    verify_key, public_key = NET.keyring.verify_key, NET.keyring.public_key


def committee(keyring: Any, of: int = 4, chain_id: bytes = NET.config.chain_id) -> Committee:
    """The last *of* the four members."""
    return Committee(Membership(0, 0, genesis(4).members[4 - of :]), chain_id, keyring)


def test_members_that_get_the_same_change_of_view_check_it_once_together():
    """q - 1 Prepares and a proposal for each batch, and in the NewView nothing of that again."""
    keyring = Counting()
    changes = tuple(NET.view_change(i, prepared=[NET.prepared(s, D) for s in (1, 2, 3)]) for i in (1, 2, 3))
    judges = [committee(keyring) for _ in range(4)]
    for change in changes:
        assert [fault_of_view_change(change, NET.config, judge) for judge in judges] == [None] * 4
    assert keyring.asked == 3 * 3 * (2 + 1)
    new_view = NET.new_view(changes)
    for judge in judges:
        assert fault_of_new_view(new_view, NET.config, judge) is None
    assert keyring.asked == 3 * 3 * (2 + 1) + 3 + 3


@pytest.mark.parametrize(
    "other",
    [
        (NET.config, committee(Counting(deaf=True))),
        (NET.config, committee(NET.keyring, chain_id=b"another chain")),
        (NET.config, committee(NET.keyring, of=3)),
        (structs.replace(NET.config, checkpoint_interval=1, log_window=2), committee(NET.keyring)),
    ],
    ids=["other keys", "another chain", "other members", "a smaller window"],
)
def test_whoever_knows_other_members_keys_or_limits_judges_for_himself(other):
    """In either order: what one found wrong or right is nothing to the other."""
    ours = NET.config, committee(NET.keyring)
    for first, second in ((ours, other), (other, ours)):
        change = NET.view_change(2, prepared=[NET.prepared(s, D) for s in (1, 2, 3)])
        found = {judge is ours: fault_of_view_change(change, *judge) for judge in (first, second, first)}
        assert found[True] is None
        assert found[False]


def test_a_changed_copy_is_judged_anew():
    change = NET.view_change(2, prepared=[NET.prepared(1, D)])
    assert fault_of_view_change(change, NET.config, committee(NET.keyring)) is None
    lie = structs.replace(change, prepared=(NET.prepared(1, D, voters=[1]),))
    assert fault_of_view_change(lie, NET.config, committee(NET.keyring))
