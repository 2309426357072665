"""After a snapshot was installed nothing is different from having executed everything, restarts included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from left_behind import CHUNKS, OTHERS, all_chunks, behind, caught_up, head, level, network, start_fetching
from msgspec.structs import replace
from replicas import of, sent
from tradebft.chain.codec import encode
from tradebft.consensus.interface import Ignored, Persist, SendBlocks, SendChunk
from tradebft.consensus.membership import Membership, Standing
from tradebft.consensus.messages import (
    FetchChunk,
    FetchReply,
    Prepare,
    Reply,
    SnapshotHead,
    Status,
    ViewChange,
)
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.snapshot import CHUNK_BYTES, Manifest, Table, cut, manifest_of, table_of


def test_a_request_that_was_executed_before_the_snapshot_is_answered_and_not_executed_again():
    net = caught_up()
    net.bag.clear()
    for sequence in (1, 7, 20, 22):
        replies = [sent(Reply, net.step(i, net.request(sequence))) for i in range(4)]
        assert [len(found) for found in replies] == [1] * 4
        assert len({(found[0].seq, found[0].result, found[0].result_digest) for found in replies}) == 1
    assert net.bag == []  # nobody passed anything on


def test_a_primary_cannot_have_a_request_executed_again_where_a_snapshot_was_installed():
    net = caught_up()
    effects = net.step(3, net.pre_prepare(net.batch(5), net.replicas[3].executed + 1))
    assert effects == [Ignored("proposal with a request that was executed")]
    decided = net.decided(24, net.batch(5), voters=OTHERS)  # and if all others were fooled
    effects = net.step(3, net.signed(FetchReply((decided,), (), None, 0)))
    (done,) = [e for e in effects if hasattr(e, "fresh")]
    assert done.fresh == ()


def test_gaps_in_a_clients_numbers_survive():
    net = network()
    net.serve([1, 2, 5, 6, 9, *range(10, 23)], without={3})
    net.step(3, net.request(23))
    net.catch_up(3)
    assert net.installed[3] == [16]
    assert net.replicas[3].clients.executed_rows() == net.replicas[0].clients.executed_rows()
    assert net.replicas[3].clients.executed("bank", 5)
    assert net.replicas[3].clients.acceptable("bank", 4)
    net.serve([3, 4, 7])
    level(net, 0, 1, 2, 3)


def test_requests_that_waited_here_and_were_executed_elsewhere_wait_no_more():
    net = behind(20)
    for sequence in (3, 20, 21):
        net.step(3, net.request(sequence))
    assert len(net.replicas[3].waiting) == 3
    net.catch_up(3)
    assert list(net.replicas[3].waiting) == []  # 21 was passed on to the primary, and executed
    assert net.timers[3] == {}
    level(net, 0, 1, 2, 3)


def test_the_window_after_a_snapshot_begins_there():
    net = behind(20)
    net.step(3, net._install(3, all_chunks(net)))
    replica = net.replicas[3]
    assert (replica.executed, replica.low, replica.high, replica.stable.seq) == (20, 20, 28, 20)
    assert replica.slots == {}
    for seq, votes in ((20, False), (21, True), (28, True), (29, False)):
        effects = net.step(3, net.pre_prepare(net.batch(100 + seq), seq))
        assert bool(sent(Prepare, effects)) is votes, seq
    # What it shows in a view change is the checkpoint of the snapshot.
    (change,) = sent(ViewChange, replica.start_view_change(0, 1))
    assert (change.stable, change.checkpoint) == (20, net.proofs[3][20])
    net.step(0, change)
    assert net.evidence == []


def test_whoever_installed_a_snapshot_serves_it_to_the_next():
    net = caught_up()
    net.bag.clear()
    fresh = network()
    fresh.step(2, head(net, 3))
    for index in range(CHUNKS):
        (effect,) = net.step(3, net.signed(FetchChunk(20, index, 2)))
        assert effect == SendChunk(2, 20, index)
    for to, chunk in net.bag:
        assert to == 2
        fresh.step(2, chunk)
    assert fresh.installed[2] == [20]
    assert fresh.roots[2] == net.blocks[0][3][1].root


def test_the_window_moves_although_the_checkpoint_was_known_before():
    net = behind()
    net.step(3, net.signed(FetchReply((), (), net.replicas[0].stable, 0)))
    replica = net.replicas[3]
    assert (replica.low, replica.high) == (
        22,
        8,
    )  # it may vote where it knows the members, and nowhere below 22
    net.step(3, net._install(3, all_chunks(net)))
    assert (replica.executed, replica.low, replica.high) == (20, 22, 28)
    net.settle()
    level(net, 0, 1, 2, 3)


MOVES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30), st.booleans()), max_size=60)


def play(table: ClientTable, moves, first: int) -> None:
    for seq, (client, sequence, answered) in enumerate(moves, start=first):
        if not table.executed(client, sequence):
            table.mark(client, sequence)
            if answered:
                table.answer(client, sequence, seq, b"%d" % seq, b"result")


@given(MOVES, MOVES, st.integers(1, 6))
def test_a_client_table_goes_on_from_a_snapshot_as_if_nothing_had_been(before, after, window):
    one = ClientTable(window)
    play(one, before, 1)
    table = table_of(cut(encode(Table(one.executed_rows(), one.reply_rows()))))
    assert table is not None
    other = ClientTable.restored(window, table)
    for moves in ((), after):
        play(one, moves, 100)
        play(other, moves, 100)
        assert other.executed_digest() == one.executed_digest()
        assert other.replies_digest() == one.replies_digest()
        for client in "ab":
            for sequence in range(1, 40):
                assert other.acceptable(client, sequence) is one.acceptable(client, sequence)
                assert other.reply(client, sequence) == one.reply(client, sequence)


# --- restart ---


@pytest.mark.parametrize("last", [19, 20, 21, 22])
@pytest.mark.parametrize("who", [0, 3])
def test_a_restart_begins_at_the_newest_snapshot(who, last):
    """Replica 0 took it itself, replica 3 installed it; 20 is a snapshot, 22 a checkpoint without one."""
    net = caught_up(last)
    before = net.replicas[who]
    effects = net.restart(who)
    after = net.replicas[who]
    assert after is not before
    for name in ("executed", "low", "high", "stable", "view", "pending", "next_seq"):
        assert getattr(after, name) == getattr(before, name), name
    newest = max(before.proofs)  # the older one is not offered any more
    assert (after.proofs, after.manifests) == (
        {newest: before.proofs[newest]},
        {newest: before.manifests[newest]},
    )
    assert after.clients.executed_rows() == before.clients.executed_rows()
    assert after.clients.reply_rows() == before.clients.reply_rows()
    assert of(Persist, effects) == []
    net.settle()
    net.serve(range(last + 2, last + 20), without={1})  # its vote is needed
    level(net, 0, 2, 3)
    assert net.evidence == []


def test_votes_above_a_snapshot_are_not_contradicted_after_a_restart():
    net = caught_up(20)
    seq = net.replicas[3].executed + 1
    first, second = net.pre_prepare(net.batch(50), seq), net.pre_prepare(net.batch(51), seq)
    assert sent(Prepare, net.step(3, first))
    net.restart(3)
    assert sent(Prepare, net.step(3, second)) == []
    assert net.replicas[3].slots[seq].digest == first.digest


def test_a_half_fetched_snapshot_is_forgotten_at_a_restart_and_fetched_again():
    net = behind()
    start_fetching(net, 15)
    net.restart(3)
    assert net.replicas[3].download is None
    net.step(3, net.request(23))
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


def test_a_power_cut_after_snapshots_loses_nothing():
    net = caught_up()
    roots = dict(net.roots)
    net.bag.clear()
    for i in range(4):
        net.restart(i)
    net.settle()
    for i in range(4):
        net.catch_up(i, 1)
    assert net.roots == roots
    net.serve(range(24, 40))
    level(net, 0, 1, 2, 3)


# --- the parts ---


def test_cutting_and_joining():
    for length in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES):
        data = bytes(k % 251 for k in range(length))
        chunks = cut(data)
        assert b"".join(chunks) == data
        assert len(chunks) == max(1, -(-length // CHUNK_BYTES))
        assert all(len(chunk) <= CHUNK_BYTES for chunk in chunks)


def test_every_field_of_a_manifest_is_bound_by_what_the_checkpoint_signs():
    standing = Standing(Membership(0, 0, ((0, b""), (1, b""))))
    made = manifest_of(4, b"r" * 32, standing, (b"table",), (b"a", b"b"))
    others = [
        replace(made, seq=8),
        replace(made, root=b"s" * 32),
        replace(made, standing=Standing(Membership(1, 0, ((0, b""), (1, b""))))),
        replace(made, table=2),
        replace(made, chunks=made.chunks[::-1]),
        manifest_of(4, b"r" * 32, standing, (b"table",), (b"ab",)),
    ]
    assert len({m.standing.binds(m.digest) for m in (made, *others)}) == 1 + len(others)
    assert isinstance(made, Manifest)


def test_chunks_that_are_no_client_table():
    good = encode(Table((("bank", 3, (5, 6)),), (("bank", ((3, 9, bytes(32), b"yes"),)),)))
    table = table_of((good[:10], good[10:]))
    assert table is not None
    assert table.executed == (("bank", 3, (5, 6)),)
    for bad in (b"", good[:-1], good + b"\x00", b"\xc1", encode([1, 2])):
        assert table_of((bad,)) is None


def test_whoever_holds_no_snapshot_answers_with_blocks():
    net = network()
    net.serve([1], without={3})
    assert net.replicas[0].snapshot_head() is None
    answers = [net.step(i, net.signed(Status(0, False, 0, 0, 0, 1, 3))) for i in OTHERS]
    assert [e for effects in answers for e in of(SendBlocks, effects)]
    assert [e for effects in answers for e in sent(SnapshotHead, effects)] == []
