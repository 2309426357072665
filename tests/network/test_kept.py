"""A real member's disk gives back what a simulated member's does, whatever was written, also after a crash."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.chain.store import Store, StoreError
from tradebft.consensus.interface import Committed
from tradebft.consensus.membership import Change, EpochProof, Membership, Standing, genesis
from tradebft.consensus.messages import (
    Batch,
    Decided,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Request,
    ViewChange,
)
from tradebft.consensus.snapshot import Snapshot, cut, manifest_of
from tradebft.network.application import HashChain, members_operation
from tradebft.network.chronicle import Chronicle, History
from tradebft.network.disk import Disk
from tradebft.network.live.kept import KINDS, Kept

DIGEST = bytes(32)
CHAIN = b"a chain"
EVERY = 4  # sequences from snapshot to snapshot


def batch(seq: int, what: int) -> Batch:
    """Some requests, with bytes of their own; now and then one that changes the members."""
    names = [f"client.{k}" for k in range(what % 4)]
    requests = [Request(name, seq, b"%d" % what, bytes(64)) for name in names]
    if what % 7 == 6:
        requests.append(Request("admin", seq, members_operation(genesis(4 + what % 3).members), bytes(64)))
    return Batch(seq * 1000, tuple(requests))


def committed(seq: int, what: int) -> Committed:
    found = batch(seq, what)
    proof = QuorumCertificate("Commit", 0, seq, found.digest, ((0, bytes(64)), (2, b"\1" * 64)))
    fresh = tuple(r for k, r in enumerate(found.requests) if not what >> k & 8)
    return Committed(seq, Decided(seq, found, proof), fresh, seq % EVERY == 0)


def proposal(seq: int, view: int) -> PrePrepare:
    return PrePrepare(view, seq, batch(seq, view).digest, view % 4, batch(seq, view), bytes(64))


def checkpoint(seq: int) -> QuorumCertificate:
    return QuorumCertificate("Checkpoint", 0, seq, DIGEST, ((1, bytes(64)),))


def epoch_proof(epoch: int) -> EpochProof:
    standing = Standing(Membership(epoch, 8 * epoch, ((0, b""),)), (Change(8 * epoch + 8, ()),))
    return EpochProof(checkpoint(8 * epoch + 8), DIGEST, standing)


numbers = st.integers(1, 30)
record = st.one_of(
    st.builds(proposal, numbers, st.integers(0, 40)),
    st.builds(
        lambda seq, view: Prepared(proposal(seq, view), QuorumCertificate("Prepare", view, seq, DIGEST, ())),
        numbers,
        st.integers(0, 40),
    ),
    st.builds(checkpoint, st.sampled_from([4, 8, 12, 16, 20])),
    st.builds(lambda view: ViewChange(view, 0, checkpoint(4), (), 1, b"v" * 64), st.integers(1, 5)),
    st.builds(lambda view: NewView(view, (), (), view % 4, b"n" * 64), st.integers(1, 5)),
    st.builds(epoch_proof, st.integers(0, 2)),
)
deed = st.one_of(
    st.tuples(st.just("write"), record),
    st.tuples(st.just("append"), st.integers(0, 100)),
    st.tuples(st.just("append"), st.integers(0, 100)),
    st.tuples(st.just("keep"), st.integers(0, 3)),
    st.tuples(st.just("prove"), st.integers(0, 3)),
    st.tuples(st.just("install"), st.integers(1, 9)),
    st.tuples(st.just("reopen"), st.booleans()),
)


class Pair:
    """A simulated member's disk and a real one's, to which the same things happen."""

    def __init__(self, folder: str, archive: bool = False) -> None:
        self.path, self.archive = Path(folder) / "store", archive
        self.disk, self.history = Disk(), History(0, Chronicle(HashChain))
        self.kept = Kept(Store.open(self.path, CHAIN), archive)
        self.height = self.floor = 0
        self.states: dict[int, tuple[bytes, ...]] = {}

    def write(self, one: object) -> None:
        self.disk.write(one)
        self.kept.write(one)

    def append(self, what: int) -> None:
        effect = committed(self.height + 1, what)
        executed = self.history.execute(effect)
        self.kept.append(effect, executed)
        self.height += 1
        if executed.chunks:
            self.states[self.height] = executed.chunks

    def keep(self, back: int) -> None:
        """The snapshot that was taken *back* snapshots ago becomes one."""
        taken = sorted(self.states)[-1 - back :][:1]
        if taken:
            self._keep(taken[0], self.states[taken[0]])

    def _keep(self, seq: int, state: tuple[bytes, ...]) -> None:
        table = tuple(b"%d of %d" % (k, seq) for k in range(1 + seq % 3))
        manifest = manifest_of(seq, b"".join(state), Standing(genesis(4)), table, state)
        self.disk.keep(manifest, table, state)
        self.kept.keep(manifest, table, state)

    def prove(self, back: int) -> None:
        seq = self.height // EVERY * EVERY
        floor = max(0, seq - back * EVERY)
        self.disk.prove(checkpoint(seq), floor)
        self.kept.prove(checkpoint(seq), floor)
        if self.disk._proofs.get(seq):
            self.history.forget(floor)
            self.floor = max(self.floor, floor)

    def install(self, ahead: int) -> None:
        """A peer's snapshot takes the place of everything."""
        seq, state = self.height + ahead, cut(digest("somewhere else", b"%d" % self.height))
        table = (b"%d" % seq,)
        manifest = manifest_of(seq, state[0], Standing(genesis(4)), table, state)
        assert self.history.install(manifest, state) == state[0]
        for one in (self.disk, self.kept):
            one.keep(manifest, table, state)
            one.prove(checkpoint(seq), seq)
        self.history.forget(seq)
        self.height = self.floor = seq
        self.states = {}

    def reopen(self, clean: bool) -> None:
        self.kept.commit()
        if not clean:  # what was not committed is lost
            self.kept.write(proposal(9_999, 1))
            self.kept.append(committed(self.height + 1, 5), self._any_execution())
            self.kept.keep(
                manifest_of(self.height, DIGEST, Standing(genesis(4)), (b"x",), (b"y",)), (b"x",), (b"y",)
            )
        self.kept.close()
        self.kept = Kept(Store.open(self.path, CHAIN), self.archive)

    def _any_execution(self):
        effect = committed(self.height + 1, 5)
        return HashChain().execute(effect.decided, effect.fresh)

    def agree(self) -> None:
        assert self.kept.read() == self.disk.read(self.history, self.height)
        assert self.kept.height == self.height
        for seq in range(1, self.height + 2):
            for index in range(
                len(self.disk._snapshots[seq].manifest.chunks) if seq in self.disk._snapshots else 1
            ):
                assert self.kept.chunk(seq, index) == self.disk.chunk(seq, index)
            block = self.history.block(seq)
            if self.floor < seq:
                assert self.kept.block(seq) == (block and block.decided)
                assert self.kept.fresh(seq) == (block.committed.fresh if block else ())


def replay(deeds, archive: bool = False) -> None:
    fast = Path("/dev/shm")  # what is tested here is not how long a disk takes
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        pair = Pair(folder, archive)
        for name, value in deeds:
            getattr(pair, name)(value)
            pair.agree()
        pair.reopen(clean=True)
        pair.agree()
        assert pair.kept.store.check() == []
        pair.kept.close()


@settings(max_examples=60)
@given(st.lists(deed, max_size=40))
def test_whatever_happens_it_reads_what_the_simulated_disk_reads(deeds):
    replay(deeds)


def test_a_long_life_with_snapshots_and_restarts():
    life = []
    for seq in range(1, 61):
        life += [("write", proposal(seq, seq)), ("append", seq)]
        if seq % EVERY == 0:
            life += [("keep", 0), ("write", checkpoint(seq)), ("prove", 1), ("reopen", seq % 8 == 0)]
    replay(life)


LIVES = {
    "votes beyond a checkpoint that were written before it": [
        *(("write", proposal(seq, 1)) for seq in (7, 8, 9, 10)),
        ("write", epoch_proof(0)),
        ("write", checkpoint(8)),
        ("write", proposal(11, 1)),
        ("write", checkpoint(4)),
    ],
    "a proven snapshot that is kept again": [
        *(("append", what) for what in range(9)),
        *(("keep", 0), ("prove", 0), ("keep", 0), ("reopen", True), ("keep", 0), ("write", checkpoint(12))),
    ],
    "a snapshot that was never proven, and the state that its block still needs": [
        *(("append", what) for what in range(9)),
        *(("keep", 1), ("write", checkpoint(8)), ("reopen", True), ("keep", 0), ("prove", 0)),
    ],
    "a snapshot of another state than the block's": [
        *(("append", what) for what in range(8)),
        *(("keep", 1), ("write", checkpoint(4)), ("install", 4), ("append", 1), ("reopen", False)),
    ],
}


@pytest.mark.parametrize("life", LIVES)
def test_lives_that_chance_seldom_leads(life):
    replay(LIVES[life])


def test_a_snapshots_state_takes_the_place_of_the_blocks(tmp_path):
    """As when a replica that went astray takes over what the others have at the same place."""
    pair = Pair(tmp_path)
    for what in range(4):
        pair.append(what)
    pair._keep(4, (b"what", b"the others have"))
    assert [pair.kept.chunk(4, index) for index in (2, 3)] == [b"what", b"the others have"]
    pair.prove(0)
    pair.agree()
    pair.kept.close()


def test_digests_that_an_application_makes_its_own_way_are_kept(tmp_path):
    kept, effect = Kept(Store.open(tmp_path / "store", CHAIN)), committed(1, 3)
    executed = HashChain().execute(effect.decided, effect.fresh)
    executed = replace(executed, results=(b"x",) * len(executed.results))
    kept.append(effect, executed)
    assert kept.read() == (effect.decided, executed)
    kept.close()


def test_a_state_that_is_not_whole_is_noticed(tmp_path):
    """A replica that begins with half a state would sign a checkpoint of something that nobody else has."""
    pair = Pair(tmp_path)
    for what in range(4):
        pair.append(what)
    pair.kept.store.drop_chunks("application", 4)
    with pytest.raises(StoreError, match="the state at block 4 is not whole"):
        pair.kept.read()
    pair.kept.close()


def test_the_rules_hold_with_an_archive_too_and_its_blocks_stay():
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(folder, archive=True)
        for seq in range(1, 21):
            pair.append(seq)
            if seq % EVERY == 0:
                pair.keep(0)
                pair.write(checkpoint(seq))
                pair.prove(0)
        pair.agree()
        assert [row.seq for row in pair.kept.store.blocks()] == list(range(1, 21))
        pair.archive = False
        pair.reopen(clean=True)
        pair.append(1)
        pair.keep(0)
        pair.prove(0)
        assert [row.seq for row in pair.kept.store.blocks()] == [21]
        pair.kept.close()


def test_a_disk_does_not_fill_up():
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(folder)
        for seq in range(1, 201):
            for view in (0, 1):
                pair.write(proposal(seq, view))
            pair.write(ViewChange(seq, 0, None, (), 1))
            pair.append(seq)
            if seq % EVERY == 0:
                pair.keep(0)
                pair.write(checkpoint(seq))
                pair.prove(1)
            store = pair.kept.store
            assert len([*store.records()]) <= 2 * EVERY + 2
            assert len(store.snapshots()) <= 2
            assert len([*store.blocks()]) <= 2 * EVERY
            assert len(store.chunked()) <= 5
            assert len(pair.kept._appended) <= 1
        pair.kept.close()


def test_the_state_for_a_restart_is_that_of_the_newest_proven_snapshot(tmp_path):
    pair = Pair(tmp_path)
    assert pair.kept.state() is None
    for what in range(9):
        pair.append(what)
    pair.keep(0)
    assert pair.kept.state() is None
    pair.prove(0)
    assert pair.kept.state() == (8, b"".join(pair.states[8]))
    assert isinstance(pair.kept.read()[0], Snapshot)
    pair.kept.close()


def test_every_kind_that_a_replica_persists_is_known_and_nothing_else(tmp_path):
    kept = Kept(Store.open(tmp_path / "store", CHAIN))
    for other in (Prepare(0, 1, DIGEST, 0), b"bytes", None, genesis(4)):
        with pytest.raises(ValueError, match="nothing that a replica persists"):
            kept.write(other)
    assert kept.read() == ()
    assert set(KINDS) == {
        "PrePrepare",
        "Prepared",
        "ViewChange",
        "NewView",
        "QuorumCertificate",
        "EpochProof",
    }
    kept.close()


@pytest.mark.parametrize("data", [b"", b"\x93", encode(["Prepared", 1, 2]), encode(proposal(1, 1)) + b"\0"])
def test_rows_of_another_making_are_refused_in_one_line(tmp_path, data):
    """Their checksums hold, so somebody wrote them on purpose; what they hold is still looked at."""
    store = Store.open(tmp_path / "store", CHAIN)
    store.put_record("PrePrepare", 1, data)
    with pytest.raises(StoreError, match="PrePrepare cannot be read") as error:
        Kept(store).read()
    assert "\n" not in str(error.value)
    store.drop_records()
    store.put_block(1, data, DIGEST)
    with pytest.raises(StoreError, match="block 1 cannot be read"):
        Kept(store).read()
    store.truncate_from(1)
    store.put_record("Gossip", 1, b"")
    with pytest.raises(StoreError, match="Gossip"):
        Kept(store).read()
    store.close()


def test_a_request_that_is_not_in_the_batch_is_refused(tmp_path):
    kept = Kept(Store.open(tmp_path / "store", CHAIN))
    effect = committed(1, 3)
    stranger = Committed(1, effect.decided, (Request("stranger", 1, b""),))
    with pytest.raises(ValueError, match="not in its batch"):
        kept.append(stranger, HashChain().execute(effect.decided, effect.fresh))
    kept.close()
