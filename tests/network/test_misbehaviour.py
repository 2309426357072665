"""Adversaries in a simulated network: who is judged, classes of one's own, and bytes that are no messages."""

from __future__ import annotations

import random

import pytest
from tradebft.chain.codec import CodecError, encode
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.byzantine import Behaviour
from tradebft.consensus.decoding import MESSAGE_BYTES_MAX, SHORT_BYTES_MAX, decoded, kind_of
from tradebft.consensus.interface import Broadcast, Config
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Chunk,
    Commit,
    Decided,
    EpochChange,
    Fetch,
    FetchChunk,
    FetchReply,
    Garbage,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    Status,
    ViewChange,
)
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED
from tradebft.network.faults import Fault
from tradebft.network.links import Constant
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh

MS, S = 10**6, 10**9


class Shouting(Behaviour):
    """Says everything twice; named by the tests as "test_misbehaviour:Shouting"."""

    defaults = {"times": 2}  # noqa: RUF012

    def does(self, now, effect):
        """Again."""
        return [effect] * (self.parameters["times"] if isinstance(effect, Broadcast) else 1)


class NoBehaviour:
    """A class that is none."""


def network(*misbehaviours, requests=5, dishonest=None, run_ns=2 * S, **settings):
    config = Config(nodes=4, checkpoint_interval=2, log_window=4, view_change_timeout_ns=300 * MS)
    cluster = Cluster(
        Settings(
            config,
            Wire(Constant(10 * MS), Mesh(4), None, 0.0, lossy=True),
            1,
            ["bank"],
            client_timeout_ns=300 * MS,
            byzantine=list(misbehaviours),
            dishonest_clients=dishonest or {},
            **settings,
        )
    )
    records = []

    def ask():
        for number in range(requests):
            records.append(
                cluster.clients["bank"].submit(cluster.env.time, b"%d" % number, "", lambda r: None)
            )
            yield cluster.env.timeout(100 * MS)

    cluster.env.process(ask())
    cluster.run(run_ns)
    return cluster, records


# --- who is judged ---


def test_only_the_others_are_judged_and_an_honest_network_has_no_adversaries():
    cluster, _ = network()
    assert cluster.byzantine == frozenset()
    cluster, _ = network(Misbehaviour(1, "over-vote"), Misbehaviour(1, "replay"))
    assert cluster.byzantine == {1}
    assert cluster.checker.violations == []  # it signs two different votes for one place all the time
    cluster.checker.sent(0, 1, Prepare(9, 9, bytes(32), 1))
    cluster.checker.sent(0, 1, Prepare(9, 9, bytes([1] * 32), 1))
    cluster.checker.sent(0, 2, Prepare(9, 9, bytes(32), 2))
    cluster.checker.sent(0, 2, Prepare(9, 9, bytes([1] * 32), 2))
    assert [violation.replica for violation in cluster.checker.violations] == [2]


def test_an_adversary_counts_as_faulty_when_liveness_is_judged():
    """With one adversary and one more member down, four have two faulty: nothing is promised, nothing is held against
    the protocol; with the adversary alone it would be."""
    down = [Fault(0, None, "crash", (3,))]
    cluster, records = network(Misbehaviour(0, "silent"), faults=down, run_ns=60 * S)
    assert [record.replied_ns for record in records] == [-1] * 5
    cluster.finish()
    assert cluster.checker.violations == []


def test_a_client_that_never_gets_an_answer_by_its_own_fault_is_not_stuck():
    cluster, records = network(dishonest={"bank": "bad-signature"}, run_ns=60 * S)
    assert [record.replied_ns for record in records] == [-1] * 5
    cluster.finish()
    assert cluster.checker.violations == []


def test_a_false_new_view_opens_no_view_in_the_records():
    cluster, _ = network(Misbehaviour(3, "false-new-view"))
    assert cluster.recorder.messages["NewView"] > 0
    assert cluster.recorder.view == 0
    cluster, _ = network(Misbehaviour(0, "silent"))
    assert cluster.recorder.view == 1
    down = [Fault(0, None, "crash", (0,))]
    cluster, _ = network(Misbehaviour(1, "replay"), faults=down)  # opens its view as it should
    assert cluster.recorder.view == 1


def test_misbehaviour_has_its_time():
    """The silent primary is honest for a second: nobody leaves its view before; later it comes back as a backup."""
    cluster, records = network(
        Misbehaviour(0, "silent", at_ns=1 * S, until_ns=3 * S), requests=40, run_ns=900 * MS
    )
    assert cluster.recorder.view == 0
    assert records[0].replied_ns > 0
    cluster.run(2 * S)
    assert cluster.recorder.view == 1
    sent = []
    broadcast = cluster.bus.broadcast
    cluster.bus.broadcast = lambda at, sender, *rest: (
        sent.append((at, sender)),
        broadcast(at, sender, *rest),
    )
    cluster.run(6 * S)
    assert [at for at, sender in sent if sender == 0 and at < 3 * S] == []
    assert [at for at, sender in sent if sender == 0 and at > 3 * S] != []
    assert all(record.replied_ns > 0 for record in records)


def test_adversaries_work_with_a_processor_and_after_a_restart():
    faults = [Fault(500 * MS, 300 * MS, "crash", (2,))]
    for behaviour in ("flood", "malformed", "replay"):
        cluster, records = network(Misbehaviour(2, behaviour), costs=MEASURED, faults=faults, run_ns=4 * S)
        assert all(record.replied_ns > 0 for record in records)
        sent_before = cluster.recorder.messages.total()
        cluster.run(5 * S)
        assert cluster.recorder.messages.total() > sent_before + 20  # its timers were set again


# --- names ---


def test_a_class_of_ones_own():
    own = f"{__name__}:Shouting"
    cluster, records = network(Misbehaviour(0, own, {"times": 3}))
    assert all(record.replied_ns > 0 for record in records)
    assert cluster.recorder.messages["PrePrepare"] == 3 * 3 * 5  # each proposal to three members, three times


@pytest.mark.parametrize(
    ("misbehaviour", "words"),
    [
        (Misbehaviour(4, "silent"), "no such node 4"),
        (Misbehaviour(0, "slient"), "no behaviour 'slient'"),
        (Misbehaviour(0, "omit", {"percentage": 3}), "no parameter 'percentage'"),
        (Misbehaviour(0, "nowhere_at_all:Class"), "nowhere_at_all"),
        (Misbehaviour(0, f"{__name__}:Nothing"), "Nothing"),
        (Misbehaviour(0, f"{__name__}:NoBehaviour"), "not a subclass"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(misbehaviour, words):
    with pytest.raises(ValueError, match=words):
        network(misbehaviour)


@pytest.mark.parametrize(
    ("dishonest", "words"),
    [({"bank": "kind"}, "no behaviour 'kind'"), ({"bonk": "far-ahead"}, "no client 'bonk'")],
)
def test_a_mistake_about_clients_is_named(dishonest, words):
    with pytest.raises(ValueError, match=words):
        network(dishonest=dishonest)


# --- bytes ---

CERTIFICATE = QuorumCertificate("Prepare", 1, 2, bytes(32), ((0, b"s" * 64), (2, b"t" * 64)))
REQUEST = Request("bank", 1, b"operation", b"s" * 64)
BATCH = Batch(5, (REQUEST,))
CHANGE = ViewChange(2, 0, None, (Prepared(PrePrepare(1, 2, bytes(32), 1), CERTIFICATE),), 0, b"v" * 64)
MESSAGES = [
    REQUEST,
    PrePrepare(1, 2, BATCH.digest, 1, BATCH, b"s" * 64),
    Prepare(1, 2, bytes(32), 0, b"s" * 64),
    Commit(1, 2, bytes(32), 0, b"s" * 64),
    Reply(1, "bank", 1, 0, 2, bytes(32), b"result", b"s" * 64),
    Checkpoint(2, bytes(32), 0, b"s" * 64),
    CHANGE,
    NewView(2, (CHANGE,), (PrePrepare(2, 1, bytes(32), 2),), 2, b"s" * 64),
    Status(1, False, 0, 0, 1, 7, 0, b"s" * 64),
    Fetch(1, bytes(32), 0, b"s" * 64),
    FetchReply((Decided(2, BATCH, CERTIFICATE),), (BATCH,), None, 0, b"s" * 64),
    FetchChunk(4, 0, 0, b"s" * 64),
    Chunk(4, 0, b"data", 0, b"s" * 64),
    EpochChange((), 0, b"s" * 64),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_encoded_is_decoded_and_nothing_like_it(message):
    data = encode(message)
    assert decoded(data) == message
    assert kind_of(data) == type(message).__name__
    for wrong in (
        data[:-1],
        data + b"\0",
        data[1:],
        b"\x91" + data,
        b"\xdc\x00" + bytes([data[0] & 15]) + data[1:],
    ):
        with pytest.raises(CodecError):
            decoded(wrong)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_changed_bytes_are_another_message_or_an_error_and_never_anything_else(message):
    data, chance = encode(message), random.Random(1)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 5))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            other = decoded(bytes(changed))
        except CodecError:
            continue
        assert encode(other) == bytes(changed)  # one encoding a message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x91" * 10_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x96\xa7Prepare\xdb\xff\xff\xff\xff",
        encode(Prepare(1, 2, bytes(SHORT_BYTES_MAX), 0)),
        encode(Prepare(-1, 2, bytes(32), 0)),
        encode(Commit(1, -2, bytes(32), 0)),
        encode(Prepare(1, 2, bytes(32), -3)),
        encode(["Prepare", True, 2, bytes(32), 0, b""]),
        encode(["Prepare", 1, 2, "0" * 32, 0, b""]),
        encode(["Prepare", 1, 2, bytes(32), None, b""]),
        encode(["Garbage", b"", 0, b""]),
        b"\x96\xa7Prepar\xff",
        bytearray(b"\x91"),
        None,
    ],
)
def test_bytes_that_are_no_message(data):
    with pytest.raises(CodecError):
        decoded(data)


def test_every_kind_has_a_limit_and_nothing_longer_is_read():
    long = encode(Chunk(4, 0, bytes(1 << 18), 0))
    with pytest.raises(CodecError, match="at most"):
        decoded(long)
    big = encode(FetchReply((), (Batch(0, (Request("bank", 1, bytes(1 << 20)),)),), None, 0))
    assert len(big) < MESSAGE_BYTES_MAX
    assert decoded(big).bodies[0].requests[0].operation == bytes(1 << 20)
    with pytest.raises(CodecError, match="at most 1000 "):
        decoded(big, limit=1000)


def test_garbage_is_counted_by_each_receiver_and_a_genuine_message_in_bytes_arrives():
    cluster, _ = network(requests=0)
    cluster.bus.broadcast(2 * S, 1, Garbage(b"\xff\xff", 1))
    cluster.bus.send(2 * S, 1, 2, Garbage(b"", 1))
    cluster.run(3 * S)
    assert cluster.recorder.ignored == {"malformed": 4}
    vote = Status(7, False, 0, 0, 0, 1, 1)
    signature = cluster.signers[1].sign(vote.payload(cluster.config.chain_id))
    genuine = Status(7, False, 0, 0, 0, 1, 1, signature)
    cluster.bus.send(3 * S, 1, 2, Garbage(encode(genuine), 1))
    cluster.bus.send(3 * S, 1, 3, Garbage(encode(vote), 1))
    cluster.run(3 * S + 50 * MS)
    assert cluster.nodes[2].replica.nonces == {1: 1}
    assert cluster.nodes[3].replica.nonces == {}
    assert cluster.recorder.ignored["bad signature"] == 1
