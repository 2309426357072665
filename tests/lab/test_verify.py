"""`tradebft verify`: a whole chain holds; with one thing changed at a time, the first bad block is named, and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from stored_chains import CHAIN, KINDS, made
from tradebft.chain.codec import decode, encode
from tradebft.chain.crypto import QuorumCertificate, make_identities, vote_payload
from tradebft.chain.store import Store
from tradebft.consensus.membership import EpochProof, genesis
from tradebft.consensus.messages import result_digest
from tradebft.consensus.snapshot import Manifest, manifest_of
from tradebft.lab import cli
from tradebft.lab.verify import VerifyError, verify
from tradebft.network.application import HashChain
from tradebft.network.live.kept import Kept, Outcome


@pytest.fixture
def lay(tmp_path):
    """Writes a store of a kind and says where it is."""

    def write(kind: str) -> Path:
        path = tmp_path / "store"
        path.write_bytes(made(kind)[0])
        return path

    return write


def change(path: Path, seq: int, of=lambda outcome: outcome, root=lambda root: root) -> None:
    """Write another block at *seq*, as a member would that lies: with a checksum that holds."""
    store = Store.open(path)
    row = store.block(seq)
    store.put_block(seq, encode(of(decode(row.data, Outcome))), root(row.root))
    store.commit()
    store.close()


# --- what holds ---


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_members_chain_holds(lay, kind):
    path = lay(kind)
    before = path.read_bytes()
    verdict = verify(path)
    assert verdict.ok, verdict
    assert verdict.why == ""
    assert verdict.identity == made(kind)[1].identity.hex()
    assert verdict.application == ("ledger" if kind.startswith("ledger") else "hash chain")
    assert verdict.checkpoints > 0
    assert verdict.last == verdict.first + verdict.blocks - 1
    if "pruned" in kind:
        assert verdict.first > 1
        assert "not here" in verdict.remarks[0]
    else:
        assert verdict.first == 1
        assert verdict.transactions == (25 if kind == "ledger" else 40)
    assert verdict.epochs == int(kind.startswith("members"))
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["store"]


def test_a_store_that_a_crash_left_behind_is_looked_at_without_a_change(lay, tmp_path):
    path = lay("plain")
    store = Store.open(path)
    store.put_meta("more", b"written, and the log not taken in")
    store.commit()
    there = tmp_path / "after a crash"
    there.mkdir()
    for name in ("store", "store-wal"):
        shutil.copy(tmp_path / name, there / name)
    store.close()
    before = [(there / name).read_bytes() for name in ("store", "store-wal")]
    assert verify(there / "store").ok
    assert [(there / name).read_bytes() for name in ("store", "store-wal")] == before
    assert len([*there.iterdir()]) == 2


def test_a_chain_that_has_not_begun_holds(tmp_path):
    founding = made("plain")[1]
    store = Store.open(tmp_path / "store", founding.identity)
    founding.write_to(store)
    store.commit()
    store.close()
    verdict = verify(tmp_path / "store")
    assert (verdict.ok, verdict.blocks) == (True, 0)


# --- one thing changed at a time ---


def with_several(path: Path, first: int) -> int:
    """The next block from *first* on with several requests."""
    store = Store.open(path)
    found = [row.seq for row in store.blocks(first) if len(decode(row.data, Outcome).fresh) > 1]
    store.close()
    return found[0]


def decided(**fields: Any):
    return lambda outcome: replace(outcome, decided=replace(outcome.decided, **fields))


def in_batch(edit):
    def of(outcome: Outcome) -> Outcome:
        batch = edit(outcome.decided.batch)
        return replace(outcome, decided=replace(outcome.decided, batch=batch))

    return of


def in_proof(**fields: Any):
    def of(outcome: Outcome) -> Outcome:
        proof = outcome.decided.certificate
        values = {name: value(proof) if callable(value) else value for name, value in fields.items()}
        return replace(outcome, decided=replace(outcome.decided, certificate=replace(proof, **values)))

    return of


def forged(proof: QuorumCertificate) -> tuple:
    (member, signature), *others = proof.votes
    return ((member, bytes([signature[0] ^ 1]) + signature[1:]), *others)


def twice(proof: QuorumCertificate) -> tuple:
    return (proof.votes[0], proof.votes[0], *proof.votes[2:])


def other_operation(batch):
    first, *others = batch.requests
    return replace(batch, requests=(replace(first, operation=first.operation + b"!"), *others))


LIES = {
    "number": (decided(seq=99), "it is the block of 99"),
    "time": (in_batch(lambda batch: replace(batch, timestamp_ns=batch.timestamp_ns + 1)), "its batch is not"),
    "operation": (in_batch(other_operation), "its batch is not"),
    "order": (in_batch(lambda batch: replace(batch, requests=batch.requests[::-1])), "its batch is not"),
    "left out": (in_batch(lambda batch: replace(batch, requests=batch.requests[1:])), ""),
    "kind of vote": (in_proof(kind="Prepare"), "for a Prepare"),
    "place of votes": (in_proof(seq=3), "at 3"),
    "view": (in_proof(view=1), "does not prove 3 votes"),
    "epoch": (in_proof(view=1 << 32), "does not prove 3 votes"),
    "signature": (in_proof(votes=forged), "does not prove 3 votes"),
    "one vote less": (in_proof(votes=lambda proof: proof.votes[1:]), "does not prove 3 votes"),
    "one vote twice": (in_proof(votes=twice), "does not prove 3 votes"),
    "a stranger": (in_proof(votes=lambda proof: ((9, proof.votes[0][1]), *proof.votes[1:])), "does not prove"),
    "digest": (in_proof(digest=bytes(32)), "its batch is not"),
    "executed": (lambda outcome: replace(outcome, fresh=outcome.fresh[1:]), "not those that were not executed"),
    "result": (lambda outcome: replace(outcome, results=(b"x", *outcome.results[1:])), "0 is not what executing"),
    "result behind the right digest": (
        lambda outcome: replace(
            outcome, results=(b"x",) * len(outcome.results), digests=tuple(map(result_digest, outcome.results))
        ), "0 is not what executing",
    ),
    "results": (lambda outcome: replace(outcome, results=outcome.results[1:]), "executing gives"),
    "digests": (
        lambda outcome: replace(outcome, digests=(bytes(32),) * len(outcome.results)), "0 is not what executing"
    ),
    "members": (lambda outcome: replace(outcome, members=genesis(7).members), "members that it agreed on"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", ["plain", "ledger"])
def test_a_changed_block_is_named(lay, kind, lie):
    path = lay(kind)
    seq = with_several(path, 5)
    edit, why = LIES[lie]
    change(path, seq, edit)
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, seq)
    assert why in verdict.why
    assert verdict.blocks == seq - 1


@pytest.mark.parametrize("kind", ["plain", "ledger"])
def test_a_changed_root_is_named(lay, kind):
    path = lay(kind)
    change(path, 7, root=lambda root: bytes(32))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 7)
    assert "its root is 0000000000000000" in verdict.why


def test_a_batch_that_was_never_voted_on_needs_more_than_a_digest_that_fits(lay):
    """Whoever changes the batch and the digest in the certificate has no signatures for it."""
    path = lay("plain")

    def of(outcome: Outcome) -> Outcome:
        batch = other_operation(outcome.decided.batch)
        proof = replace(outcome.decided.certificate, digest=batch.digest)
        return replace(outcome, decided=replace(outcome.decided, batch=batch, certificate=proof))

    change(path, 3, of)
    verdict = verify(path)
    assert (verdict.first_bad, verdict.why) == (3, "its certificate does not prove 3 votes of epoch 0")


def signed_again(path: Path, seq: int, edit) -> None:
    """A whole quorum commits to something else: only what is below votes can show it."""
    signers, _ = make_identities([*range(4), "bank", "shop"], "real", seed=1)

    def of(outcome: Outcome) -> Outcome:
        batch = edit(outcome.decided.batch)
        proof = replace(outcome.decided.certificate, digest=batch.digest)
        payload = vote_payload(CHAIN, "Commit", proof.view, seq, batch.digest)
        proof = replace(proof, votes=tuple((i, signers[i].sign(payload)) for i in range(3)))
        return replace(outcome, decided=replace(outcome.decided, batch=batch, certificate=proof))

    change(path, seq, of)


def test_a_quorum_cannot_speak_for_a_client(lay):
    path = lay("plain")
    signed_again(path, 4, other_operation)
    verdict = verify(path)
    assert verdict.first_bad == 4
    assert "is not signed by" in verdict.why


def test_a_quorum_that_changes_the_past_meets_its_own_checkpoint(lay):
    """The order of a batch is changed and everything after it made to fit, but not what q signed of the state."""
    path = lay("plain")
    signed_again(path, 4, lambda batch: replace(batch, timestamp_ns=batch.timestamp_ns + 1))
    application = HashChain()
    store = Store.open(path)
    kept = Kept(store)
    for row in [*store.blocks()]:
        block = kept.kept_block(row.seq)
        store.put_block(row.seq, row.data, application.execute(block.decided, block.fresh).root)
    store.commit()
    last = max(record.seq for record in store.records() if record.kind == "QuorumCertificate")
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, last)
    assert "a quorum signed another state" in verdict.why


# --- blocks that are not there ---


@pytest.mark.parametrize("kind", ["plain", "members"])
def test_a_missing_block_is_named(lay, kind):
    path = lay(kind)
    store = Store.open(path)
    rows = [*store.blocks(6)]
    store.truncate_from(6)
    for row in rows[1:]:
        store.put_block(*row)
    store.commit()
    store.close()
    verdict = verify(path)
    assert verdict.first_bad == 6
    assert "missing" in verdict.why


@pytest.mark.parametrize("kind", ["pruned", "members pruned", "ledger pruned"])
def test_a_proven_snapshot_stands_for_blocks_that_are_missing_before_it(lay, kind):
    path = lay(kind)
    whole = verify(path)
    store = Store.open(path)
    first, second = [row.seq for row in store.snapshots()]
    rows = [*store.blocks(second)]
    store.truncate_from(first + 2)
    for row in rows[1:]:
        store.put_block(*row)
    store.commit()
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.last, verdict.root) == (True, whole.last, whole.root)
    assert verdict.blocks == whole.blocks - (second - first - 1)
    assert len(verdict.remarks) == 2


def test_blocks_that_changed_places_are_named(lay):
    path = lay("plain")
    store = Store.open(path)
    five, six = store.block(5), store.block(6)
    store.put_block(5, six.data, six.root)
    store.put_block(6, five.data, five.root)
    store.commit()
    store.close()
    assert (verify(path).first_bad, verify(path).why) == (5, "it is the block of 6")


def test_the_end_may_be_missing_and_a_checkpoint_beyond_it_is_remarked(lay):
    path = lay("plain")
    store = Store.open(path)
    store.truncate_from(6)
    store.commit()
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.last) == (True, 5)
    assert any("ahead of the blocks" in remark for remark in verdict.remarks)


# --- snapshots and epochs ---


@pytest.mark.parametrize("kind", ["pruned", "ledger pruned"])
@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("state", "chunks of its snapshot"),
        ("table", "chunks of its snapshot"),
        ("manifest", ""),
        ("proof", ""),
        ("signature", "does not prove 3 votes"),
    ],
)
@pytest.mark.parametrize("which", [0, -1])
def test_a_changed_snapshot_is_named(lay, kind, lie, why, which):
    path = lay(kind)
    store = Store.open(path)
    row = store.snapshots()[which]
    manifest, proof = decode(row.manifest, Manifest), decode(row.proof, QuorumCertificate)
    match lie:
        case "state":
            store.put_chunks("application", row.seq, (b"another state",))
        case "table":
            store.put_chunks("table", row.seq, (b"another table",))
        case "manifest":
            chunks = (b"table",), (b"state",)
            lying = manifest_of(row.seq, bytes(32), manifest.standing, *chunks)
            store.put_snapshot(row.seq, encode(lying), row.proof)
            store.put_chunks("table", row.seq, chunks[0])
            store.put_chunks("application", row.seq, chunks[1])
        case "proof":
            store.put_snapshot(row.seq, row.manifest, encode(replace(proof, digest=bytes(32))))
        case _:
            store.put_snapshot(row.seq, row.manifest, encode(replace(proof, votes=forged(proof))))
    store.commit()
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, row.seq)
    assert why in verdict.why


@pytest.mark.parametrize("kind", ["pruned", "ledger pruned"])
def test_a_snapshot_without_a_proof_is_checked_all_the_same(lay, kind):
    path = lay(kind)
    store = Store.open(path)
    row = store.snapshots()[-1]
    store.put_snapshot(row.seq, encode(replace(decode(row.manifest, Manifest), root=bytes(32))))
    store.commit()
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, row.seq)
    assert "not of the state that executing gives" in verdict.why


@pytest.mark.parametrize("kind", ["members", "members pruned"])
def test_a_changed_proof_of_an_epoch_is_named(lay, kind):
    path = lay(kind)
    store = Store.open(path)
    (proof,) = [decode(r.data, EpochProof) for r in store.records() if r.kind == "EpochProof"]
    for lie in (
        replace(proof, state=bytes(32)),
        replace(proof, certificate=replace(proof.certificate, votes=forged(proof.certificate))),
        replace(proof, certificate=replace(proof.certificate, votes=proof.certificate.votes[1:])),
    ):
        store.drop_records(kind="EpochProof")
        store.put_record("EpochProof", 1 << 62, encode(lie))
        store.commit()
        store.close()
        verdict = verify(path)
        assert not verdict.ok
        assert verdict.first_bad >= proof.certificate.seq
        assert "epoch 0 ends here" in verdict.why
        store = Store.open(path)
    store.close()


def test_without_the_proof_of_an_epoch_its_end_is_named(lay):
    path = lay("members")
    store = Store.open(path)
    store.drop_records(kind="EpochProof")
    store.commit()
    store.close()
    verdict = verify(path)
    assert not verdict.ok
    assert "epoch 0 ends here, and there is no proof" in verdict.why
    assert verdict.first_bad % 4 == 0


# --- stores that are damaged, or are none ---


def test_a_flipped_bit_in_a_block_is_named(lay):
    path = lay("plain")
    store = Store.open(path)
    needle = store.block(5).data[-40:]
    store.close()
    data = bytearray(path.read_bytes())
    data[data.index(needle) + 7] ^= 4
    path.write_bytes(data)
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 5)
    assert "damaged" in verdict.why
    assert any(remark.startswith("block at 5") for remark in verdict.remarks)


def test_a_store_that_is_cut_short_does_not_hold(lay):
    path = lay("plain")
    path.write_bytes(path.read_bytes()[:9000])
    assert not verify(path).ok


def test_another_founding_than_the_identity_names_does_not_hold(lay):
    path = lay("plain")
    founding = made("plain")[1]
    store = Store.open(path)
    store.put_meta("founding", encode(replace(founding, clients=founding.clients[:1])))
    store.commit()
    store.close()
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 0)
    assert "founding" in verdict.why


def test_the_wrong_keys_hold_nothing(tmp_path, lay):
    """A whole store of another making: what it names as its members did not sign its blocks."""
    founding = made("plain")[1]
    other = replace(founding, replicas=founding.replicas[::-1])
    kept = Kept(Store.open(tmp_path / "other", other.identity))
    other.write_to(kept.store)
    path = lay("plain")
    source = Store.open(path)
    for row in source.blocks():
        kept.store.put_block(*row)
    source.close()
    kept.commit()
    kept.close()
    verdict = verify(tmp_path / "other")
    assert verdict.first_bad == 1
    with pytest.raises(VerifyError, match="another network"):
        verify(tmp_path / "other", founding.identity)


@pytest.mark.parametrize("what", ["nothing", "text", "no founding", "open elsewhere"])
def test_what_cannot_be_checked_is_one_line(tmp_path, what, capsys):
    path = tmp_path / "store"
    held = None
    if what == "text":
        path.write_bytes(b"hello" * 1000)
    elif what != "nothing":
        held = Store.open(path, CHAIN)
        if what == "no founding":
            held.close()
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(path)])
    out, err = capsys.readouterr()
    assert (left.value.code, out, err.count("\n")) == (2, "", 1)
    assert str(path) in err
    if held is not None:
        held.close()


# --- the command ---


def test_the_command_says_what_holds_and_what_does_not(lay, capsys):
    path = lay("ledger")
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(path)])
    assert left.value.code == 0
    assert "ok: " in capsys.readouterr().out
    seq = with_several(path, 5)
    change(path, seq, LIES["result"][0])
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(path)])
    assert left.value.code == 1
    assert f"bad block {seq}: receipt 0 is not what executing gives" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(path), "--json"])
    assert left.value.code == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["first_bad"]) == (False, seq)


def test_the_network_can_be_demanded(lay, capsys):
    path = lay("plain")
    for text, code in ((made("plain")[1].identity.hex(), 0), ("00" * 32, 2), ("xyz", 2)):
        with pytest.raises(SystemExit) as left:
            cli.main(["verify", str(path), "--identity", text])
        assert left.value.code == code
    capsys.readouterr()
