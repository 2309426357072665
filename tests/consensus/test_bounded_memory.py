"""Nothing inside a replica grows without bound, whatever one peer and the clients send it.

A hostile member sends thousands of messages of every kind, each signed as it should be and of no use. What the replica
holds is weighed as a whole, part by part and whatever its parts are called: after two thousand messages it must have
reached a bound that the next six thousand do not move.
"""

from __future__ import annotations

import random
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType

import msgspec
import pytest
from left_behind import behind, head
from replicas import CLIENTS, Network
from tradebft.chain import crypto
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import Config
from tradebft.consensus.membership import (
    Change,
    EpochProof,
    Membership,
    Standing,
    first_view,
    genesis,
)
from tradebft.consensus.messages import (
    KINDS,
    Batch,
    Checkpoint,
    Chunk,
    Commit,
    Decided,
    EpochChange,
    Fetch,
    FetchChunk,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    SnapshotHead,
    Status,
    ViewChange,
)
from tradebft.consensus.snapshot import Manifest

SMALL = {
    "batch_size": 2,
    "batch_bytes": 400,
    "checkpoint_interval": 2,
    "log_window": 8,
    "snapshot_interval": 4,
    "client_window": 8,
    "max_requests_waiting": 20,
}
FEW, MANY, EVERY, LATEST = 2000, 8000, 50, 1500
SLACK = 800  # of some 12,000; one number kept for each message of one kind would make 3,600
LEAVES = (float, bool, type(None), type, FunctionType, MethodType, BuiltinFunctionType, Config)


def weight(root: object) -> int:
    """Bytes of everything that can be reached from *root*, a number being 8, and 1 for every entry of a container."""
    total, seen, todo = 0, set(), [root]
    while todo:
        one = todo.pop()
        if isinstance(one, int):
            total += 8
        if isinstance(one, (int, *LEAVES)) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray | str):
            total += len(one)
        elif isinstance(one, dict):
            total += len(one)
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            total += len(one)
            todo += one
        else:
            names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names += getattr(one, "__struct_fields__", ())
            todo += [getattr(one, name) for name in names if hasattr(one, name)]
            todo.append(getattr(one, "__dict__", {}))
    return total


def test_the_scales_find_whatever_is_put_anywhere():
    """What is weighed by reflection must be found out first: an entry in any kind of container, at any depth."""

    class Slotted:
        __slots__ = ("held",)

    class Plain:
        pass

    class Struct(msgspec.Struct):
        held: object

    for make in (Slotted, Plain, lambda: Struct(None)):
        for wrap in (lambda x: [x], lambda x: (x,), lambda x: {x: 1}, lambda x: {1: x}, lambda x: {x}, deque):
            outer, inner = Plain(), make()
            outer.part = inner
            inner.held = wrap([]) if wrap is deque else wrap("")
            empty = weight(outer)
            inner.held = wrap(["x" * 50]) if wrap is deque else wrap("x" * 50)
            assert weight(outer) - empty in (50, 51)


# --- the messages ---


class Hostile:
    """One member, and the clients, sending whatever may be signed."""

    def __init__(self, net: Network, me: int, victim: int, seed: int) -> None:
        self.net, self.me, self.victim, self.count = net, me, victim, 0
        self.random = random.Random(seed)

    def number(self) -> int:
        """Near, far, or anywhere; and mostly one that was not used before."""
        chance = self.random
        return chance.choice(
            [chance.randrange(12), self.count, 2 * self.count, 1000 * self.count, chance.randrange(1 << 62)]
        )

    def view(self) -> int:
        epoch = self.random.choice([0, 0, 0, 0, 1, self.count])
        return min(first_view(epoch) + self.number() % (1 << 30), (1 << 64) - 1)

    def value(self) -> bytes:
        return self.random.choice([bytes(32), self.count.to_bytes(32, "big")])

    def batch(self) -> Batch:
        return Batch(0, (self.request(), self.request()))

    def request(self) -> Request:
        client = self.random.choice(CLIENTS)
        return self.net.signed(Request(client, self.number(), bytes(50)))

    def certificate(
        self, kind: str = "", seq: int | None = None, value: bytes | None = None
    ) -> QuorumCertificate:
        """Votes that nobody gave, for a kind that exists or for one that does not."""
        chance = self.random
        return QuorumCertificate(
            chance.choice([kind or chance.choice(["Prepare", "Commit", "Checkpoint"]), f"kind {self.count}"]),
            chance.choice([0, self.view()]),
            self.number() if seq is None else seq,
            self.value() if value is None else value,
            tuple((voter, bytes(64)) for voter in range(chance.choice([2, 4]))),
        )

    def block(self) -> Decided:
        """The one that the replica wants next, with a certificate that is none."""
        seq, batch = self.net.replicas[self.victim].executed + 1, self.batch()
        return Decided(seq, batch, self.certificate("Commit", seq, batch.digest))

    def standing(self) -> Standing:
        now = Membership(self.random.choice([0, 1, self.count]), 0, genesis(4).members)
        return Standing(now, (Change(self.number(), ((0, b""),)),))

    def make(self, kind: type):
        me, chance = self.me, self.random
        digest, view, seq = self.value(), self.view(), self.number()
        if kind is PrePrepare:
            batch, near = self.batch(), self.net.replicas[self.victim].low + 1 + chance.randrange(8)
            where = chance.choice([(0, near), (0, seq), (view, seq), (view, near)])
            return PrePrepare(*where, chance.choice([batch.digest, digest]), me, batch)
        if kind in (Prepare, Commit):
            return kind(chance.choice([0, view]), seq, digest, me)
        if kind is Prepared:
            return Prepared(PrePrepare(0, seq, digest, 0), self.certificate("Prepare"))
        return {
            Request: self.request,
            Reply: lambda: Reply(view, "bank", seq, me, seq, digest, b"result"),
            Checkpoint: lambda: Checkpoint(
                2 * (seq >> 2), digest, me, b"", chance.choice([0, 0, 1, self.count])
            ),
            ViewChange: lambda: self.view_change(view),
            NewView: lambda: NewView(
                view, tuple(self.view_change(view) for _ in range(chance.randrange(3))), (), me
            ),
            Status: lambda: Status(view, chance.random() < 0.5, seq, seq, self.number(), self.count, me),
            Fetch: lambda: Fetch(seq, digest, me),
            FetchReply: lambda: FetchReply(
                chance.choice([(self.block(),), ()]),
                (self.batch(),),
                self.certificate(),
                me,
            ),
            SnapshotHead: lambda: SnapshotHead(
                Manifest(4 * (1 + seq % 1000), digest, self.standing(), 1, (digest, digest)),
                self.certificate("Checkpoint"),
                me,
                (EpochProof(self.certificate(), digest, self.standing()),),
            ),
            FetchChunk: lambda: FetchChunk(seq, chance.randrange(30), me),
            Chunk: lambda: Chunk(chance.choice([8, 20, seq]), chance.randrange(30), digest, me),
            EpochChange: lambda: EpochChange((EpochProof(self.certificate(), digest, self.standing()),), me),
        }[kind]()

    def view_change(self, view: int) -> ViewChange:
        """A valid one that shows nothing, or one that shows what nobody signed."""
        if self.random.random() < 0.5:
            return self.net.view_change(self.me, view)
        shown = tuple(self.make(Prepared) for _ in range(self.random.randrange(3)))
        return self.net.signed(
            ViewChange(view, self.number(), self.certificate("Checkpoint"), shown, self.me)
        )

    def fill(self) -> None:
        """Take at once what anybody may take: places in the log, and places where requests wait."""
        net, low = self.net, self.net.replicas[self.victim].low
        for seq in range(low + 1, low + SMALL["log_window"] + 1):
            for kind in (Prepare, Commit):
                net.step(self.victim, net.signed(kind(0, seq, bytes(32), self.me)))
            pair = Batch(0, tuple(net.request(2 * seq + k, bytes(50)) for k in (0, 1)))
            net.step(self.victim, net.pre_prepare(pair, seq, replica=self.me))
        for sequence in range(1, 40):
            for client in CLIENTS:
                net.step(self.victim, net.request(sequence, bytes(50), client))
        forget(self.net)

    def send(self) -> None:
        """One message arrives; now and then some time passes and a timer runs out."""
        net, victim = self.net, self.victim
        self.count += 1
        kind = KINDS[self.count % len(KINDS)]
        net.step(victim, net.signed(self.make(kind)))
        if self.count % 37 == 0:
            net.now += self.random.randrange(2 * net.config.view_change_timeout_ns)
            net.fire(victim, "status")
        forget(net)


def forget(net: Network) -> None:
    """What the harness writes down is not the replica's."""
    net.bag.clear()
    net.evidence.clear()
    net.replies.clear()
    net.disks[1].clear()


def weights(hostile: Hostile, timer_every: int = 0) -> tuple[int, int]:
    """What the replica weighs on average, before so few messages have arrived and before so many have."""
    replica, found = hostile.net.replicas[hostile.victim], []
    hostile.fill()
    for at in range(1, MANY + 1):
        hostile.send()
        if timer_every and at % timer_every == 0:
            hostile.net.fire(hostile.victim, "view-change")
        if at % EVERY == 0 and (FEW - LATEST < at <= FEW or at > MANY - LATEST):
            found.append(weight([replica, crypto._vote_prefixes]))
    half = len(found) // 2
    return sum(found[:half]) // half, sum(found[half:]) // half


def network(**config) -> Network:
    return Network(**{**SMALL, **config})


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("me", [0, 3], ids=["the primary", "a backup"])
def test_one_hostile_member_does_not_make_a_replica_grow(me, seed):
    few, many = weights(Hostile(network(), me, 1, seed))
    assert many <= few + SLACK


def test_a_primary_does_not_grow_either():
    net = network()
    few, many = weights(Hostile(net, 3, 0, 3))
    assert many <= few + SLACK


def test_nor_does_a_replica_that_goes_from_view_to_view():
    """Its timer runs out again and again, and nobody else is there: every message is for a view that may yet come."""
    net = network()
    hostile = Hostile(net, 3, 1, 4)
    few, many = weights(hostile, timer_every=50)
    assert net.replicas[1].changing
    assert many <= few + SLACK


def test_nor_does_one_that_has_a_history_and_snapshots_to_show():
    net = network()
    for sequence in range(1, 20):
        net.serve([sequence], without={3})
    assert net.replicas[1].proofs
    few, many = weights(Hostile(net, 3, 1, 5))
    assert many <= few + SLACK


def test_nor_does_one_that_fetches_a_snapshot():
    net = behind(22)
    net.step(3, head(net, 1))
    hostile = Hostile(net, 0, 3, 6)
    few, many = weights(hostile)
    assert net.replicas[3].download is not None
    assert many <= few + SLACK


def test_nor_one_that_several_keys_are_announced_to():
    net = network(later_keys=2)
    few, many = weights(Hostile(net, 3, 1, 7))
    assert many <= few + SLACK
