"""What a disk gives back: everything that was written before the power failed, in order, and nothing after it."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import (
    Broadcast,
    Committed,
    Config,
    KeepSnapshot,
    Persist,
    Send,
    SetTimer,
    SnapshotProven,
    Start,
)
from tradebft.consensus.membership import Change, EpochProof, Membership, Standing, genesis
from tradebft.consensus.messages import Batch, Decided, NewView, Prepare, Prepared, PrePrepare, ViewChange
from tradebft.consensus.snapshot import Snapshot, manifest_of
from tradebft.network.application import HashChain
from tradebft.network.chronicle import Chronicle, History
from tradebft.network.disk import Disk
from tradebft.network.node import ReplicaNode, Shared

DIGEST = bytes(32)


def proposal(seq: int, view: int = 0) -> PrePrepare:
    return PrePrepare(view, seq, DIGEST, view % 4, Batch(seq, ()))


def prepared(seq: int, view: int = 0) -> Prepared:
    return Prepared(proposal(seq, view), QuorumCertificate("Prepare", view, seq, DIGEST, ()))


def checkpoint(seq: int) -> QuorumCertificate:
    return QuorumCertificate("Checkpoint", 0, seq, DIGEST, ())


def view_change(view: int) -> ViewChange:
    return ViewChange(view, 0, None, (), 1)


def new_view(view: int) -> NewView:
    return NewView(view, (), (), view % 4)


def epoch_proof(epoch: int) -> EpochProof:
    standing = Standing(Membership(epoch, 8 * epoch, ()), (Change(8 * epoch + 8, ()),))
    return EpochProof(checkpoint(8 * epoch + 8), DIGEST, standing)


def manifest(seq: int, table: int = 1, application: int = 2):
    chunks = [b"%d of %d" % (k, seq) for k in range(table + application)]
    found = manifest_of(seq, DIGEST, Standing(genesis(4)), chunks[:table], chunks[table:])
    return found, tuple(chunks[:table]), tuple(chunks[table:])


def records(disk: Disk) -> list:
    """What was persisted, without blocks and snapshots."""
    return [r for r in disk.read(History(0, Chronicle(HashChain)), 0) if not isinstance(r, Snapshot)]


# --- records ---

record = st.one_of(
    st.builds(proposal, st.integers(1, 20), st.integers(0, 3)),
    st.builds(prepared, st.integers(1, 20), st.integers(0, 3)),
    st.builds(checkpoint, st.sampled_from([4, 8, 12, 16, 20])),
    st.builds(view_change, st.integers(1, 5)),
    st.builds(new_view, st.integers(1, 5)),
    st.builds(epoch_proof, st.integers(0, 2)),
)


def about(one) -> int:
    return one.pre_prepare.seq if isinstance(one, Prepared) else one.seq


@given(st.lists(record, max_size=60))
def test_what_was_written_is_read_back_in_order_except_what_has_no_use_any_more(written):
    """The model keeps everything, and knows which a replica that starts again may still want."""
    disk, low, sensible = Disk(), 0, []
    for one in written:
        if isinstance(one, PrePrepare | Prepared | QuorumCertificate) and about(one) <= low:
            continue  # no replica votes at or below its stable checkpoint
        low = one.seq if isinstance(one, QuorumCertificate) else low
        disk.write(one)
        sensible.append(one)
    found = records(disk)
    kinds = (PrePrepare | Prepared, EpochProof, ViewChange, NewView, QuorumCertificate)
    votes, proofs, view_changes, new_views, checkpoints = (
        [r for r in sensible if isinstance(r, kind)] for kind in kinds
    )
    left = [[r for r in found if isinstance(r, kind)] for kind in kinds]
    assert left[0] == [r for r in votes if about(r) > low]
    assert left[1] == proofs
    assert left[2:] == [view_changes[-1:], new_views[-1:], checkpoints[-1:]]
    # In order of writing, but for the checkpoint: what is voted on above it is read with the watermark known.
    assert not low or found[0].seq == low
    order = {id(r): at for at, r in enumerate(sensible)}
    places = [order[id(r)] for r in found if not isinstance(r, QuorumCertificate)]
    assert places == sorted(places)


def test_a_vote_exactly_at_the_checkpoint_goes_and_the_one_after_it_stays():
    disk = Disk()
    for seq in (7, 8, 9):
        disk.write(proposal(seq))
        disk.write(prepared(seq))
    disk.write(checkpoint(8))
    assert records(disk) == [checkpoint(8), proposal(9), prepared(9)]


def test_the_proof_of_an_epoch_outlives_every_checkpoint():
    """Whoever missed the change of members needs the whole chain of proofs."""
    disk = Disk()
    disk.write(epoch_proof(0))
    for seq in range(4, 4000, 4):
        disk.write(checkpoint(seq))
    disk.write(epoch_proof(1))
    assert records(disk) == [checkpoint(3996), epoch_proof(0), epoch_proof(1)]


def test_a_disk_does_not_fill_up():
    disk = Disk()
    for seq in range(1, 2001):
        disk.write(proposal(seq))
        disk.write(prepared(seq))
        disk.write(view_change(seq))
        disk.write(new_view(seq))
        if seq % 4 == 0:
            disk.keep(*manifest(seq))
            disk.write(checkpoint(seq))
            disk.prove(checkpoint(seq), max(0, seq - 4))
        assert len(disk._records) <= 1 + 2 * 4 + 2
        assert len(disk._snapshots) <= 3
        assert len(disk._proofs) <= 2


# --- snapshots ---


def test_a_snapshot_is_read_with_its_proof_and_without_one_not_at_all():
    disk, history = Disk(), History(0, Chronicle(HashChain))
    found, table, application = manifest(0)
    disk.keep(found, table, application)
    assert disk.read(history, 0) == ()
    disk.prove(checkpoint(0), 0)
    assert disk.read(history, 0) == (Snapshot(found, checkpoint(0), table),)


def test_the_proof_of_a_snapshot_that_is_not_here_proves_nothing():
    disk = Disk()
    disk.keep(*manifest(4))
    disk.prove(checkpoint(4), 4)
    disk.prove(checkpoint(8), 8)
    assert disk.chunk(4, 0) == manifest(4)[1][0]
    snapshot = disk.read(History(0, Chronicle(HashChain)), 4)[0]
    assert snapshot.manifest.seq == 4


@given(st.integers(1, 3), st.integers(1, 4))
def test_chunks_are_numbered_through_table_and_application(table, application):
    disk = Disk()
    disk.keep(*manifest(4, table, application))
    assert [disk.chunk(4, i) for i in range(table + application)] == [
        b"%d of 4" % i for i in range(table + application)
    ]
    assert disk.chunk(8, 0) is None


def test_two_proven_snapshots_stay_and_a_third_drives_out_the_oldest():
    disk = Disk()
    for seq in (4, 8, 12):
        disk.keep(*manifest(seq))
        disk.write(checkpoint(seq))
        disk.prove(checkpoint(seq), max(4, seq - 4))
    assert [seq for seq in (4, 8, 12) if disk.chunk(seq, 0) is not None] == [8, 12]


def test_a_snapshot_that_was_never_proven_goes_with_the_next_stable_checkpoint():
    """A laggard takes snapshots behind everybody: they are whole states, and must not heap up."""
    disk = Disk()
    for seq in (4, 8):
        disk.keep(*manifest(seq))
    disk.keep(*manifest(12))
    disk.write(checkpoint(12))
    assert [seq for seq in (4, 8, 12) if disk.chunk(seq, 0) is not None] == [12]


# --- the whole of it, as a replica reads it ---


def committed(seq: int) -> Committed:
    batch = Batch(seq, ())
    return Committed(
        seq, Decided(seq, batch, QuorumCertificate("Commit", 0, seq, batch.digest, ())), (), seq % 4 == 0
    )


def test_a_restart_reads_the_newest_snapshot_then_the_blocks_after_it_then_the_records():
    chronicle = Chronicle(HashChain)
    history, disk = History(0, chronicle), Disk()
    for seq in range(1, 11):
        disk.write(proposal(seq))
        history.execute(committed(seq))
        if seq % 4 == 0:
            disk.keep(*manifest(seq))
    disk.write(checkpoint(4))
    disk.prove(checkpoint(4), 4)
    disk.write(checkpoint(8))
    disk.prove(checkpoint(8), 4)
    found = disk.read(history, 10)
    assert isinstance(found[0], Snapshot)
    assert found[0].manifest.seq == 8
    assert [(type(r).__name__, r.seq) for r in found[1:5]] == [
        ("Decided", 9),
        ("Executed", 9),
        ("Decided", 10),
        ("Executed", 10),
    ]
    assert found[5:] == (checkpoint(8), proposal(9), proposal(10))


def test_without_a_snapshot_every_block_is_read_from_the_first():
    chronicle = Chronicle(HashChain)
    history, disk = History(0, chronicle), Disk()
    for seq in range(1, 6):
        history.execute(committed(seq))
    disk.write(checkpoint(4))
    found = disk.read(history, 5)
    assert [r.seq for r in found if isinstance(r, Decided)] == [1, 2, 3, 4, 5]
    assert found[-1] == checkpoint(4)


# --- the power fails ---


class Scripted:
    """A replica that asks for what it is told to, and remembers what it was started with."""

    def __init__(self) -> None:
        self.me, self.config, self.started, self.script = 0, Config(4), [], []

    def step(self, now, event):
        if isinstance(event, Start):
            self.started.append(event.records)
            return ()
        return self.script


class Heard:
    """A bus that writes down what reaches it."""

    def __init__(self) -> None:
        self.log: list = []

    def __getattr__(self, name):
        return lambda *arguments: self.log.append((name, arguments))


def make_node():
    replicas, bus, chronicle = [], Heard(), Chronicle(HashChain)

    def make():
        replicas.append(Scripted())
        return replicas[-1]

    anything = SimpleNamespace(
        entered=lambda *_: None, trace=SimpleNamespace(event=lambda *_: None), ignored=Counter()
    )
    node = ReplicaNode(0, make, Shared(bus, anything, anything, chronicle, None), lambda: 15)
    return node, replicas, bus


def written_at(effects) -> list:
    return [effect.record for effect in effects if isinstance(effect, Persist)]


effect = st.one_of(
    st.builds(lambda seq: Persist(proposal(seq)), st.integers(1, 9)),
    st.builds(lambda seq: Persist(prepared(seq)), st.integers(1, 9)),
    st.builds(lambda seq: Broadcast(Prepare(0, seq, DIGEST, 0)), st.integers(1, 9)),
    st.builds(lambda seq: Send(1, Prepare(0, seq, DIGEST, 0)), st.integers(1, 9)),
    st.just(SetTimer("status", 5)),
)


@given(st.lists(effect, max_size=8), st.lists(effect, max_size=8))
def test_a_torn_write_loses_itself_and_all_that_follows_in_its_step_and_nothing_before(earlier, step):
    """Whatever step the power fails in: the disk and the network have what came before that write, no more."""
    node, replicas, bus = make_node()
    replicas[0].script = earlier
    node.receive(1, "anything")
    node.tear(node.crash)
    replicas[0].script = step
    node.receive(2, "anything")
    cut = next((at for at, one in enumerate(step) if isinstance(one, Persist)), None)
    done = step if cut is None else step[:cut]
    assert node.up is (cut is None)
    assert len(bus.log) == sum(not isinstance(one, Persist) for one in [*earlier, *done])
    if cut is not None:
        node.recover(3)
        assert node.up
        assert list(replicas[1].started[0]) == written_at(earlier)
        # And the power fails once: the next write is durable.
        replicas[1].script = step
        node.receive(4, "anything")
        assert node.up
        assert list(node._disk.read(node._history, 0)) == written_at([*earlier, *step])


def test_what_was_durable_before_an_ordinary_crash_is_durable_after_it():
    node, replicas, _ = make_node()
    replicas[0].script = [Persist(proposal(1)), Persist(prepared(1)), Persist(view_change(1))]
    node.receive(1, "anything")
    for restart in range(1, 4):
        node.crash()
        node.recover(restart)
        assert list(replicas[-1].started[0]) == [proposal(1), prepared(1), view_change(1)]


def test_snapshots_and_proofs_survive_too():
    node, replicas, _ = make_node()
    found, table, application = manifest(4)
    node._height = 4
    replicas[0].script = [
        Persist(checkpoint(4)),
        KeepSnapshot(found, table, application),
        SnapshotProven(checkpoint(4), 4),
    ]
    node.receive(1, "anything")
    node.crash()
    node.recover(2)
    assert list(replicas[-1].started[0]) == [Snapshot(found, checkpoint(4), table), checkpoint(4)]
    assert [node._disk.chunk(4, i) for i in range(3)] == [*table, *application]


@pytest.mark.parametrize("torn", [False, True])
def test_a_write_that_is_not_torn_is_written_before_anything_that_follows_is_said(torn):
    """Persist, then say so: the order of the effects is what makes a vote safe."""
    node, replicas, bus = make_node()
    replicas[0].script = [Persist(proposal(1)), Broadcast(Prepare(0, 1, DIGEST, 0))]
    if torn:
        node.tear(node.crash)
    node.receive(1, "anything")
    assert bool(bus.log) is bool(node._disk._records) is not torn
