"""What is kept of the common history: what a replica may be asked for is there, and what nobody asks for goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.consensus.interface import Committed
from tradebft.consensus.membership import Standing, genesis
from tradebft.consensus.messages import Batch, Decided, Request
from tradebft.consensus.snapshot import cut, manifest_of
from tradebft.network.application import HashChain
from tradebft.network.chronicle import Block, Chronicle, History

EVERY = 4  # sequences from snapshot to snapshot
LAST = 40


class Counting(HashChain):
    """A hash chain that counts what all of its kind execute, and has no state to speak of at the end of it."""

    executions = 0

    def execute(self, decided, fresh):
        type(self).executions += 1
        return super().execute(decided, fresh)


@pytest.fixture(autouse=True)
def count_from_nothing():
    Counting.executions = 0


def committed(seq: int, what: bytes = b"", snapshot: bool | None = None) -> Committed:
    request = Request("bank", seq, what)
    batch = Batch(seq, (request,))
    proof = QuorumCertificate("Commit", 0, seq, batch.digest, ())
    wanted = seq % EVERY == 0 if snapshot is None else snapshot
    return Committed(seq, Decided(seq, batch, proof), (request,), wanted)


def reference() -> dict[int, Block]:
    """The blocks of one application that executes everything by itself."""
    application, blocks = HashChain(), {}
    for seq in range(1, LAST + 1):
        effect = committed(seq)
        executed = application.execute(effect.decided, effect.fresh)
        if effect.snapshot:
            executed = type(executed)(
                seq, executed.results, executed.result_digests, executed.root, cut(*application.snapshot())
            )
        blocks[seq] = Block(effect, executed)
    return blocks


TRUTH = reference()


def manifest(seq: int):
    block = TRUTH[seq].executed
    return manifest_of(seq, block.root, Standing(genesis(4)), (b"table",), block.chunks)


class Node:
    """A history, and what its replica believes of it."""

    def __init__(self, index: int, chronicle: Chronicle) -> None:
        self.history = History(index, chronicle)
        self.height = self.floor = 0
        self.up = True
        self.installed = 0  # what a snapshot took over is on the disk, and not in the history

    def execute(self) -> None:
        if self.up and self.height < LAST:
            self.height += 1
            assert self.history.execute(committed(self.height)) == TRUTH[self.height].executed

    def prove(self) -> None:
        """The newest two snapshots and the blocks after the older one are what others may still want."""
        newest = self.height // EVERY * EVERY
        if self.up and newest > self.floor:
            self.floor = max(self.floor, newest - EVERY)
            self.history.forget(self.floor)

    def crash(self) -> None:
        if self.up:
            self.up = False
            self.history.crash(self.height)

    def recover(self) -> None:
        if not self.up:
            self.up = True
            self.history.recover()

    def install(self, other: Node) -> None:
        """Take over the newest snapshot that *other* has, while *other* still has the blocks after it."""
        seq = other.height // EVERY * EVERY
        if self.up and other.up and seq > self.height:
            assert self.history.install(manifest(seq), TRUTH[seq].executed.chunks) == TRUTH[seq].executed.root
            self.height = self.floor = self.installed = seq
            self.history.forget(seq)

    def kept(self) -> None:
        for seq in range(self.floor + 1, self.height + 1):
            assert self.history.block(seq) == TRUTH[seq], (seq, self.floor, self.height)
        assert all(self.floor <= seq <= LAST for seq in self.history._blocks)


moves = st.tuples(
    st.sampled_from(["execute"] * 6 + ["prove"] * 2 + ["crash", "recover", "install"]),
    st.integers(0, 2),
    st.integers(1, 6),
)


@given(st.lists(moves, max_size=60), st.booleans())
def test_whatever_a_replica_may_be_asked_for_is_there(story, apart):
    """Replicas at their own pace, crashes, snapshots: nobody lacks a block above its floor, and all agree."""
    chronicle = Chronicle(HashChain, apart=apart)
    nodes = [Node(i, chronicle) for i in range(3)]
    for move, index, times in story:
        if move == "install":
            nodes[index].install(nodes[(index + times) % 3])
        elif move == "execute":
            for _ in range(times):
                nodes[index].execute()
        else:
            getattr(nodes[index], move)()
        for node in nodes:
            node.kept()
        wanted = min((node.floor for node in nodes if node.up), default=0)
        assert all(seq >= wanted for seq in chronicle.blocks), "a block that nobody wants is still kept"


def test_one_execution_serves_everybody():
    chronicle = Chronicle(Counting)
    histories = [History(i, chronicle) for i in range(5)]
    for seq in range(1, 9):
        answers = [history.execute(committed(seq)) for history in histories]
        assert all(answer is answers[0] for answer in answers)
    assert Counting.executions == 8
    assert chronicle.height == 8


def test_apart_means_that_each_executes_for_itself_and_their_answers_agree():
    chronicle = Chronicle(Counting, apart=True)
    histories = [History(i, chronicle) for i in range(3)]
    for seq in range(1, 9):
        assert all(history.execute(committed(seq)) == TRUTH[seq].executed for history in histories)
    assert Counting.executions == 8 * (3 + 1)  # and once for what they have in common


def test_nothing_is_executed_a_second_time_for_whoever_is_late():
    chronicle = Chronicle(Counting)
    early, late = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 20):
        early.execute(committed(seq))
    for seq in range(1, 20):
        assert late.execute(committed(seq)) == TRUTH[seq].executed
    assert Counting.executions == 19


def test_another_batch_is_another_history_and_stays_one():
    """What differs is executed for that replica alone: the others do not see it, and it does not see theirs."""
    chronicle = Chronicle(HashChain)
    honest, other = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 7):
        honest.execute(committed(seq))
        other.execute(committed(seq))
    for seq in range(7, 11):
        assert honest.execute(committed(seq)) == TRUTH[seq].executed
        effect = committed(seq, b"forged") if seq == 7 else committed(seq)
        assert other.execute(effect).root != TRUTH[seq].executed.root
    assert all(honest.block(seq) == TRUTH[seq] for seq in range(1, 11))
    assert [other.block(seq) == TRUTH[seq] for seq in range(5, 11)] == [True, True, *[False] * 4]
    # What it executed is what an application that was handed the same batches from the start says.
    alone = HashChain()
    for seq in range(1, 11):
        effect = committed(seq, b"forged") if seq == 7 else committed(seq)
        expected = alone.execute(effect.decided, effect.fresh)
    block = other.block(10)
    assert block is not None
    assert block.executed == expected


def test_whoever_differs_first_does_not_lead_the_others_astray():
    """The first to commit writes the chronicle; a second one that differs gets its own answer, not the first's."""
    chronicle = Chronicle(HashChain)
    first, second = History(0, chronicle), History(1, chronicle)
    first.execute(committed(1, b"forged"))
    assert second.execute(committed(1)) == TRUTH[1].executed
    for seq in range(2, 6):
        assert second.execute(committed(seq)) == TRUTH[seq].executed


def test_another_history_goes_on_from_the_newest_snapshot_and_not_from_blocks_that_are_gone():
    chronicle = Chronicle(Counting)
    honest, other = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 15):
        honest.execute(committed(seq))
        other.execute(committed(seq))
    for history in (honest, other):
        history.forget(8)
    assert honest.block(7) is None
    honest.execute(committed(15))
    before = Counting.executions
    other.execute(committed(15, b"forged"))
    assert Counting.executions - before == 3  # 13, 14 and 15: the snapshot at 12 need not be executed
    assert other.block(14) == TRUTH[14]


def test_a_history_that_cannot_be_executed_says_so():
    chronicle = Chronicle(HashChain)
    histories = [History(i, chronicle) for i in range(2)]
    for seq in range(1, 4):
        for history in histories:
            history.execute(committed(seq))
    for history in histories:
        history.forget(3)  # and there is no snapshot at 3
    histories[0].execute(committed(4))
    with pytest.raises(ValueError, match="block 2 is no longer kept"):
        histories[1].execute(committed(4, b"forged"))


def test_whoever_falls_behind_where_nobody_fails_is_handed_what_the_others_executed():
    """A processor that has more to do than it can is no fault that a scenario announces."""
    chronicle = Chronicle(HashChain)
    fast, slow = History(0, chronicle), History(1, chronicle)
    for history in (fast, slow):
        history.execute(committed(1))
    for seq in range(2, LAST + 1):
        fast.execute(committed(seq))
    for seq in range(2, LAST + 1):
        assert slow.execute(committed(seq)) is chronicle.blocks[seq].executed
    assert slow.shared
    assert list(chronicle.blocks) == list(range(1, LAST + 1)), "until a snapshot is proven"


def test_the_slowest_that_is_up_decides_what_stays():
    chronicle = Chronicle(HashChain)
    fast, slow, down = (History(i, chronicle) for i in range(3))
    for seq in range(1, 21):
        for history in (fast, slow, down):
            history.execute(committed(seq))
    fast.forget(16)
    assert min(chronicle.blocks) == 1
    down.crash(20)
    slow.forget(8)
    assert min(chronicle.blocks) == 8  # the snapshot itself stays
    assert down.block(1) == TRUTH[1]  # on its disk
    slow.forget(12)
    down.recover()
    assert (fast.block(11), down.block(11)) == (None, TRUTH[11])
    down.forget(16)
    assert down.block(11) is None
    assert down.block(16) == TRUTH[16]


def test_what_is_on_the_disk_at_a_crash_comes_back_in_order():
    chronicle = Chronicle(HashChain)
    node, others = History(0, chronicle), [History(i, chronicle) for i in (1, 2)]
    for seq in range(1, 11):
        for history in (node, *others):
            history.execute(committed(seq))
    node.forget(4)
    node.crash(10)
    for seq in range(11, 31):
        for history in others:
            history.execute(committed(seq))
    for history in others:
        history.forget(28)
    node.recover()
    assert list(node._blocks) == list(range(4, 11))
    assert [node.block(seq) for seq in range(4, 11)] == [TRUTH[seq] for seq in range(4, 11)]
    node.forget(8)
    assert list(node._blocks) == [8, 9, 10]  # the snapshot itself stays
    for seq in range(11, 31):
        assert node.execute(committed(seq)) == TRUTH[seq].executed  # for itself, as nobody keeps 11 any more
    assert node.block(30) is chronicle.blocks[30]


def test_whoever_is_back_is_waited_for_again():
    chronicle = Chronicle(HashChain)
    node, other = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 11):
        node.execute(committed(seq))
        other.execute(committed(seq))
    node.crash(10)
    node.recover()
    for seq in range(11, 31):
        other.execute(committed(seq))
        if seq <= 14:
            node.execute(committed(seq))
    other.forget(28)
    assert [node.block(seq) for seq in range(1, 15)] == [TRUTH[seq] for seq in range(1, 15)]


def test_blocks_beyond_the_height_do_not_survive_a_crash():
    """Others are ahead: what they executed is not what this one has on its disk."""
    chronicle = Chronicle(HashChain)
    node, other = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 21):
        other.execute(committed(seq))
        if seq <= 6:
            node.execute(committed(seq))
    node.crash(6)
    assert list(node._blocks) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("apart", [False, True])
def test_a_snapshot_is_taken_over_and_the_history_goes_on_from_there(apart):
    chronicle = Chronicle(HashChain, apart=apart)
    ahead, behind = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 19):
        ahead.execute(committed(seq))
    behind.execute(committed(1))
    assert behind.install(manifest(12), TRUTH[12].executed.chunks) == TRUTH[12].executed.root
    behind.forget(12)
    for seq in range(13, 25):
        assert behind.execute(committed(seq)) == TRUTH[seq].executed


def test_chunks_that_hold_no_state_are_refused_and_the_right_ones_are_not():
    chronicle = Chronicle(HashChain)
    History(0, chronicle)
    behind = History(1, chronicle)
    assert behind.install(manifest(12), (b"no state of anything",)) is None
    assert behind.install(manifest(12), TRUTH[12].executed.chunks) == TRUTH[12].executed.root
    assert behind.execute(committed(13)) == TRUTH[13].executed


def test_a_snapshot_whose_content_is_not_what_the_others_have_is_not_taken_for_theirs():
    """A manifest that names the right root and a state that is another: the answer is the state's own root."""
    chronicle = Chronicle(HashChain)
    ahead, behind = History(0, chronicle), History(1, chronicle)
    for seq in range(1, 13):
        ahead.execute(committed(seq))
    assert behind.install(manifest(12), (digest("another", b"state"),)) == digest("another", b"state")
