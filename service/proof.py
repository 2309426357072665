"""Proof for a third party that a transaction was committed: the batch that holds it, and a quorum's signatures.

Any node can give one, and none has to be believed: whoever has the network's founding can check it offline. It shows
that the transaction has its place in the order for ever. What the ledger answered (accepted or refused) is in the
receipt, which a client gets from f+1 replicas.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from tradebft.chain import transaction
from tradebft.chain.codec import CodecError, decode
from tradebft.consensus.membership import Committee, EpochProof, epoch_of, genesis
from tradebft.consensus.messages import Decided, Request, authentic
from tradebft.network.live.founding import Founding
from tradebft.service.errors import ServiceError

_BYTES_MAX: Final = 1 << 27


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """*transaction*'s id, in hexadecimal, as everything here is; the block *decided*, and the *epochs* up to it."""

    transaction: str
    seq: int
    decided: str
    epochs: list[str] = []


class Proven(NamedTuple):
    """What a proof shows: who asked for what, where it stands, and which replicas signed that."""

    sender: str
    type: str
    seq: int
    place: int
    signers: tuple[int, ...]


def fetched(node: str, id: bytes, seq: int) -> Proof:
    """The proof of transaction *id* in block *seq*, from the node whose HTTP address is *node*."""
    url = f"{node.rstrip('/')}/blocks/{seq}"
    try:
        if not url.startswith(("http://", "https://")):
            raise ServiceError(f"--node {node}: expected http://HOST:PORT")
        with urllib.request.urlopen(url, timeout=15) as answer:
            block = msgspec.json.decode(answer.read(_BYTES_MAX), type=dict[str, Any])
        return Proof(id.hex(), block["seq"], block["decided"], block["epochs"])
    except urllib.error.HTTPError as error:
        raise ServiceError(f"{url}: {error.code}: {error.read(300).decode(errors='replace')}") from None
    except (OSError, msgspec.DecodeError, KeyError, ValueError) as error:
        if isinstance(error, ServiceError):
            raise
        raise ServiceError(f"{url}: no proof there: {error}") from None


def read(path: Path) -> Proof:
    """The proof in the file *path*."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Proof)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise ServiceError(f"{path}: expected a proof: {error}") from None


def checked(proof: Proof, founding: Founding) -> Proven:
    """What *proof* shows to whoever knows *founding*. ServiceError, with the reason, where it shows nothing."""
    try:
        decided = decode(bytes.fromhex(proof.decided), Decided, limit=_BYTES_MAX)
        epochs = [decode(bytes.fromhex(one), EpochProof, limit=_BYTES_MAX) for one in proof.epochs]
        wanted = bytes.fromhex(proof.transaction)
    except (CodecError, ValueError) as error:
        raise ServiceError(f"the proof cannot be read: {error}") from None
    certificate = decided.certificate
    committee = _committee(founding, epochs, epoch_of(certificate.view))
    if certificate.kind != "Commit" or certificate.seq != decided.seq or proof.seq != decided.seq:
        raise ServiceError("the certificate is not one of this block")
    if certificate.digest != decided.batch.digest:
        raise ServiceError("the certificate is of another batch")
    if not committee.holds(certificate, committee.quorum):
        raise ServiceError("no quorum of the members signed this block")
    for place, request in enumerate(decided.batch.requests):
        found = _transaction_in(request)
        if found is not None and found.id == wanted:
            if not authentic(request, founding.config.chain_id, founding.keyring()):
                raise ServiceError("the request is not signed by its client")
            signers = tuple(int(member) for member, _ in certificate.votes)
            return Proven(found.body.sender, found.body.type, decided.seq, place, signers)
    raise ServiceError(f"the transaction {proof.transaction} is not in block {decided.seq}")


def _committee(founding: Founding, epochs: list[EpochProof], epoch: int) -> Committee:
    keyring = founding.keyring()
    committee = Committee(genesis(founding.config.nodes), founding.config.chain_id, keyring)
    for proof in sorted(epochs, key=lambda one: one.standing.membership.epoch):
        if committee.epoch < epoch and proof.standing.membership.epoch == committee.epoch:
            following = committee.followed_by(proof, keyring)
            if following is None:
                raise ServiceError(f"the end of epoch {committee.epoch} is not proven")
            committee = following
    if committee.epoch != epoch:
        raise ServiceError(f"the members of epoch {epoch} are not proven")
    return committee


def _transaction_in(request: Request) -> transaction.Transaction | None:
    try:
        return transaction.decode(request.operation)
    except CodecError:
        return None
