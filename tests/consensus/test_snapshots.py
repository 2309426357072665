"""State transfer by snapshot: what proves one, where its chunks come from, and what holds after it was installed."""

from __future__ import annotations

import pytest
from left_behind import CHUNKS, OTHERS, all_chunks, asked, behind, head, level, network, start_fetching
from msgspec.structs import replace
from replicas import Network, of, sent
from tradebft.consensus.interface import (
    Evidence,
    Executed,
    Ignored,
    Install,
    Installed,
    SendBlocks,
    SendChunk,
)
from tradebft.consensus.membership import Change, Membership, Standing
from tradebft.consensus.messages import (
    Chunk,
    FetchChunk,
    FetchReply,
    SnapshotHead,
    Status,
)
from tradebft.consensus.pbft.snapshots import CHUNKS_AT_ONCE

# --- the whole way ---


def test_who_is_behind_everything_that_is_kept_takes_a_snapshot_and_goes_on():
    net = behind()
    assert [net.base[i] for i in OTHERS] == [16] * 3
    net.step(3, net.request(23))  # it hears of a request, and nothing comes of it
    net.catch_up(3)
    assert net.installed == {0: [], 1: [], 2: [], 3: [20]}
    assert net.evidence == []
    level(net, 0, 1, 2, 3)
    net.serve(range(24, 34), without={2})  # without it there would be no quorum any more
    level(net, 0, 1, 3)
    assert net.replicas[3].executed == 33


def test_a_snapshot_is_not_needed_while_the_blocks_are_kept():
    """Status at the older of the two snapshots is answered with blocks, one below it with the newer snapshot's head."""
    net = behind()
    assert sorted(net.replicas[1].proofs) == [16, 20]
    for executed, kind in ((15, SnapshotHead), (16, SendBlocks), (17, SendBlocks), (21, SendBlocks)):
        net.now += 1
        answers = []
        for i in OTHERS:
            answers += net.step(i, net.signed(Status(0, False, 0, 14, executed, net.now, 3)))
        if kind is SnapshotHead:
            heads = sent(SnapshotHead, answers)
            assert {shown.manifest.seq for shown in heads} == {20}
            assert of(SendBlocks, answers) == []
        else:
            assert {(e.first, e.last) for e in of(SendBlocks, answers)} == {(executed + 1, 22)}
            assert sent(SnapshotHead, answers) == []


def test_two_snapshots_are_kept_and_the_blocks_after_the_older_one():
    net = network()
    for sequence in range(1, 31):
        net.serve([sequence])
        newest = sequence // 4 * 4
        for i in range(4):
            kept = [seq for seq in (newest - 4, newest) if seq > 0]
            assert sorted(net.replicas[i].proofs) == sorted(net.replicas[i].manifests) == kept
            assert sorted(net.proofs[i]) == sorted(net.snapshots[i]) == kept
            assert net.base[i] == min(kept, default=0)


def test_without_an_interval_no_snapshot_is_taken_and_every_block_is_kept():
    net = Network(batch_size=1, checkpoint_interval=2, log_window=4)
    net.serve(range(1, 20), without={3})
    assert net.snapshots[0] == {}
    assert len(net.blocks[0]) == 19
    net.step(3, net.request(20))
    net.catch_up(3)
    assert net.replicas[3].executed == 20
    assert net.installed[3] == []


# --- what is believed ---


def forged(net: Network, how: str) -> SnapshotHead:
    """The head that replica 0 would show, with something wrong in it, validly signed by replica 0."""
    good = head(net, 0)
    manifest, proof = good.manifest, good.certificate

    def signed_by(voters, **fields):
        made = replace(manifest, **fields)
        value = made.standing.binds(made.digest)
        return {"manifest": made, "certificate": net.certificate("Checkpoint", made.seq, value, voters)}

    stranger = Standing(Membership(0, 0, ((0, b""), (1, b""), (9, b""))))
    promised = Standing(manifest.standing.membership, (Change(30, ((0, b""),)),))
    votes = proof.votes
    wrong = {
        "too few votes": {"certificate": replace(proof, votes=votes[:2])},
        "a vote twice": {"certificate": replace(proof, votes=(votes[0], votes[0], votes[1]))},
        "a vote that fails": {"certificate": replace(proof, votes=((0, votes[1][1]), *votes[1:]))},
        "a vote by no member": {"certificate": replace(proof, votes=(*votes[:2], ("bank", votes[2][1])))},
        "certificate of another kind": {
            "certificate": net.certificate("Commit", manifest.seq, proof.digest, OTHERS)
        },
        "certificate of a later epoch": {
            "certificate": net.certificate("Checkpoint", manifest.seq, proof.digest, OTHERS, 1 << 32)
        },
        "certificate of a view": {
            "certificate": net.certificate("Checkpoint", manifest.seq, proof.digest, OTHERS, 1)
        },
        "certificate of another sequence": {
            "certificate": net.certificate("Checkpoint", manifest.seq - 4, proof.digest, OTHERS)
        },
        "certificate of another state": {"certificate": net.stable(manifest.seq)},
        "root": {"manifest": replace(manifest, root=bytes(32))},
        "chunk": {"manifest": replace(manifest, chunks=(manifest.chunks[1], *manifest.chunks[1:]))},
        "one chunk more": {"manifest": replace(manifest, chunks=(*manifest.chunks, bytes(32)))},
        "sequence": {"manifest": replace(manifest, seq=manifest.seq + 4)},
        "other members": {"manifest": replace(manifest, standing=stranger)},
        "other members, well signed": signed_by(OTHERS, standing=stranger),
        "a change that nobody agreed": {"manifest": replace(manifest, standing=promised)},
        "no client table": signed_by(OTHERS, table=0),
        "nothing but a client table": signed_by(OTHERS, table=CHUNKS),
        "a checkpoint without a snapshot": signed_by(OTHERS, seq=manifest.seq + 2),
    }[how]
    return net.signed(replace(good, **wrong))


@pytest.mark.parametrize(
    "how",
    [
        "too few votes",
        "a vote twice",
        "a vote that fails",
        "a vote by no member",
        "certificate of another kind",
        "certificate of a later epoch",
        "certificate of a view",
        "certificate of another sequence",
        "certificate of another state",
        "root",
        "chunk",
        "one chunk more",
        "sequence",
        "other members",
        "other members, well signed",
        "a change that nobody agreed",
        "no client table",
        "nothing but a client table",
        "a checkpoint without a snapshot",
    ],
)
def test_a_head_that_nothing_proves_is_held_against_its_sender(how):
    net = behind()
    effects = net.step(3, forged(net, how))
    assert [e.culprit for e in of(Evidence, effects)] == [0]
    assert "that nothing proves" in of(Evidence, effects)[0].what
    assert sent(FetchChunk, effects) == []
    # It does not keep the true one out, not even from the same sender.
    assert len(sent(FetchChunk, net.step(3, head(net, 0)))) == CHUNKS_AT_ONCE
    assert net.evidence == [(3, of(Evidence, effects)[0])]


def test_a_head_of_what_one_has_and_a_second_copy_are_ignored():
    net = behind()
    assert of(Ignored, net.step(0, head(net, 1))) == [Ignored("a snapshot of what this replica has")]
    net.step(3, head(net, 0))
    assert net.step(3, head(net, 0)) == [Ignored("a snapshot that this replica knows of")]
    older = replace(forged(net, "root"), replica=1)
    assert net.step(3, net.signed(older)) == [Ignored("another snapshot than the one being fetched")]


# --- chunks ---


def test_a_wrong_chunk_is_evidence_and_the_liar_is_asked_no_more():
    net = behind()
    net.step(3, head(net, 1))
    net.step(3, head(net, 2))
    assert asked(net) == [(1, index) for index in range(CHUNKS_AT_ONCE)]
    net.bag.clear()
    good = net.chunk(1, 20, 5)
    effects = net.step(3, net.signed(replace(good, data=good.data + b"?")))
    (found,) = of(Evidence, effects)
    assert (found.culprit, found.what) == (1, "sent a wrong chunk 5 of the snapshot at 20")
    assert asked(net) == [(2, 5)]  # elsewhere, at once
    net.bag.clear()
    net.step(3, net.signed(net.chunk(2, 20, 5)))
    assert asked(net) == [(2, CHUNKS_AT_ONCE)]
    net.step(3, net.request(23))  # the other seven that were asked of replica 1 never come
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


def test_the_only_source_stays_one_although_it_lied():
    """Perhaps nobody else has it: a later answer of the same peer may be right, and is checked like any other."""
    net = behind()
    net.step(3, head(net, 1))
    net.bag.clear()
    net.step(3, net.signed(replace(net.chunk(1, 20, 0), data=b"")))
    assert asked(net) == [(1, 0)]


def test_a_chunk_needs_no_honest_sender_only_its_digest():
    net = behind()
    net.step(3, head(net, 1))
    net.bag.clear()
    for index in range(CHUNKS):
        assert not net.replicas[3].installing
        net.step(3, net.signed(replace(net.chunk(1, 20, index), replica=0)))
    assert net.installed[3] == [20]


def test_chunks_that_nobody_asked_for_change_nothing():
    net = behind()
    chunk = net.signed(net.chunk(1, 20, 0))
    useless = [Ignored("a chunk that this replica does not need")]
    assert net.step(3, chunk) == useless  # no snapshot is being fetched
    net.step(3, head(net, 1))
    net.step(3, chunk)
    assert net.step(3, chunk) == useless  # a second copy
    assert net.step(3, net.signed(net.chunk(1, 16, 3))) == useless  # of another snapshot
    for index in (-1, CHUNKS, 1 << 60):
        beyond = net.signed(Chunk(20, index, b"", 1))
        assert net.step(3, beyond) == [Ignored("a chunk that the snapshot does not have")]
    assert net.evidence == []


def test_sources_are_asked_in_turn_and_few_chunks_at_a_time():
    net = behind()
    net.step(3, head(net, 0))
    net.step(3, head(net, 1))
    net.step(3, head(net, 2))
    seen = []
    while net.replicas[3].executed == 0:
        assert len(asked(net)) <= CHUNKS_AT_ONCE
        to, fetch = net.bag.pop(0)
        seen.append((to, fetch.index))
        net.bag = [entry for entry in net.bag if isinstance(entry[1], FetchChunk)]
        net.step(3, net.signed(net.chunk(to, 20, fetch.index)))
    assert [index for _, index in seen] == list(range(CHUNKS))  # each once
    later = [to for to, _ in seen[CHUNKS_AT_ONCE:]]
    assert {later.count(source) for source in OTHERS} <= {4, 5}
    assert len(later) == CHUNKS - CHUNKS_AT_ONCE


def test_each_chunk_is_progress_and_who_gets_no_more_of_them_asks_an_interval_later():
    net = behind()
    net.step(3, head(net, 1))
    net.now += net.timers[3]["status"] // 2
    net.step(3, net.signed(net.chunk(1, 20, 0)))
    since = net.now
    assert sent(Status, net.fire(3, "status")) == []
    assert sent(Status, net.fire(3, "status"))
    assert net.now == since + net.config.status_ns


def test_what_does_not_come_is_asked_of_somebody_else():
    net = behind()
    net.step(3, net.request(23))
    net.step(3, head(net, 1))
    net.step(3, head(net, 2))
    net.bag.clear()
    net.fire(3, "status")
    again = asked(net)
    assert sorted(index for _, index in again) == list(range(CHUNKS_AT_ONCE))
    assert {to for to, _ in again} == {1, 2}


def test_chunks_are_given_out_up_to_a_quota_and_again_later():
    net = behind()
    ask = [net.signed(FetchChunk(20, index % CHUNKS, 3)) for index in range(100)]
    given = [bool(of(SendChunk, net.step(1, fetch))) for fetch in ask]
    assert given == [True] * 64 + [False] * 36
    assert net.step(1, ask[0]) == [Ignored("chunk beyond its asker's quota")]
    assert of(SendChunk, net.step(1, net.signed(FetchChunk(20, 0, 2))))  # another asker's is another quota
    net.now += net.config.view_change_timeout_ns // 1000
    assert [bool(of(SendChunk, net.step(1, fetch))) for fetch in ask[:2]] == [True, False]


def test_questions_about_snapshots_that_are_not_here():
    net = behind()
    (shown,) = sent(SnapshotHead, net.step(1, net.signed(FetchChunk(12, 0, 3))))  # gone: this is newer
    assert shown.manifest.seq == 20
    missing = [Ignored("a chunk of a snapshot that this replica does not hold")]
    assert net.step(1, net.signed(FetchChunk(24, 0, 3))) == missing
    assert net.step(3, net.signed(FetchChunk(4, 0, 1))) == missing
    for index in (-1, CHUNKS, 1 << 60):
        effects = net.step(1, net.signed(FetchChunk(20, index, 3)))
        assert effects == [Ignored("a chunk that the snapshot does not have")]


# --- while it is fetched, the others go on ---


def test_a_snapshot_that_is_gone_is_given_up_for_a_newer_one_with_what_is_the_same_in_it():
    net = behind()
    start_fetching(net, 11)
    net.serve(range(23, 33), without={3})  # up to 32: the snapshot at 20 is dropped everywhere
    assert sorted(net.replicas[1].proofs) == [28, 32]
    net.step(3, net.request(33))
    newer = head(net, 1)
    assert net.step(3, newer) == [Ignored("another snapshot than the one being fetched")]  # it may still come
    net.fire(3, "status")  # nothing came of it: ask again, be shown what there is
    net.settle()
    if net.installed[3] != [32]:
        net.catch_up(3)
    assert net.installed[3] == [32]
    level(net, 0, 1, 2, 3)


def test_chunks_that_did_not_change_are_not_fetched_again():
    net = behind()
    start_fetching(net, 11)  # the table, the root, and ballast 1..9 of which 2, 4, 6 and 8 never change
    net.serve(range(23, 33), without={3})
    net.replicas[3].download.stalled = True
    net.step(3, head(net, 1))
    known = set(range(CHUNKS)) - {m.index for _, m in net.bag if isinstance(m, FetchChunk)}
    assert known & set(range(12)) == {3, 5, 7, 9}
    net.settle()
    assert net.installed[3] == [32]


def test_blocks_that_are_faster_make_the_snapshot_needless():
    net = network()
    blocks = []
    net.watch = lambda i, e: blocks.append(e.decided) if i == 0 and hasattr(e, "decided") else None
    net.serve(range(1, 23), without={3})
    start_fetching(net, 7)
    net.step(3, net.signed(FetchReply(tuple(blocks[:21]), (), None, 1)))
    assert net.replicas[3].executed == 21
    chunk = net.step(3, net.signed(net.chunk(1, 20, 7)))
    assert of(Install, chunk) == []
    assert net.replicas[3].download is None
    assert net.installed[3] == []
    net.step(3, net.request(23))
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


def test_nothing_is_executed_between_install_and_installed():
    net = behind()
    blocks = [decided for decided, _ in net.blocks[0]]
    assert [block.seq for block in blocks] == [17, 18, 19, 20, 21, 22]
    install = all_chunks(net)
    replica = net.replicas[3]
    early = replica.step(net.now, net.signed(FetchReply((net.decided(1, net.batch(1)),), (), None, 1)))
    assert early == (Ignored("nothing in it that this replica lacked"),)
    assert replica.step(net.now, head(net, 2)) == (Ignored("a snapshot of what this replica has"),)
    assert replica.executed == 0
    effects = net.step(3, net._install(3, install))
    assert replica.executed == 20
    assert sent(Status, effects)[0].executed == 20  # and asks for the rest
    net.settle()
    level(net, 0, 1, 2, 3)


def test_an_answer_that_the_application_owed_is_of_no_use_after_the_snapshot():
    net = network()
    decided = []
    net.watch = lambda i, e: decided.append(e.decided) if i == 0 and hasattr(e, "decided") else None
    net.serve(range(1, 23), without={3})
    replica = net.replicas[3]
    replica.step(net.now, net.signed(FetchReply((decided[0],), (), None, 1)))  # handed out, no answer yet
    assert replica.executed == 1
    net.step(3, net._install(3, all_chunks(net)))
    late = Executed(1, (b"",), (bytes(32),), bytes(32))
    assert net.step(3, late) == [Ignored("the execution of what a snapshot took over")]
    net.settle()
    level(net, 0, 1, 2, 3)


def test_chunks_that_hold_no_state_are_dropped_and_asking_goes_on():
    """q replicas signed it, so this cannot be with at most f liars; but it must neither raise nor be taken over."""
    net = behind()
    all_chunks(net)
    effects = net.step(3, Installed(20, None))
    assert effects == [Ignored("a snapshot whose content is not the state that it names")]
    replica = net.replicas[3]
    assert (replica.executed, replica.installing, replica.download) == (0, False, None)
    net.step(3, net.request(23))
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


def test_an_installation_that_nobody_asked_for_is_an_error_of_the_caller():
    net = behind()
    with pytest.raises(ValueError, match="no snapshot at 20 is being installed"):
        net.replicas[3].step(0, Installed(20, bytes(32)))
    all_chunks(net)
    with pytest.raises(ValueError, match="no snapshot at 16 is being installed"):
        net.replicas[3].step(0, Installed(16, bytes(32)))
