"""A block: what was agreed on at one height, how everybody can check it, and proofs that a part belongs to
it.

Merkle trees are those of RFC 6962: leaves and inner nodes are hashed with different first bytes, an odd node
moves up unpaired. So no leaf is ever taken for a node, and no two lists share a root (doubling the last leaf,
as some chains do, gives two lists one root).

The commit certificate signs the batch's digest at a sequence number. Roots are the outcome of executing it;
replicas sign those in checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from tradebft.chain import codec
from tradebft.chain.crypto import Keyring, QuorumCertificate, digest

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
EMPTY_ROOT: Final = sha256(b"").digest()
GENESIS_PARENT: Final = bytes(32)
COMMIT: Final = "Commit"
"""The kind of vote a commit certificate is made of."""


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a block is: its place, its batch, and what executing it led to. Hashes have 32 bytes."""

    height: int
    parent: bytes
    time_ns: int
    batch_digest: bytes
    tx_root: bytes
    receipts_root: bytes
    state_root: bytes

    @property
    def hash(self) -> bytes:
        return digest("header", codec.encode(self))


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A header, the batch as consensus ordered it (opaque bytes), and why it is final."""

    header: Header
    batch: bytes
    certificate: QuorumCertificate | None = None


class Proof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """That a leaf is number `index` of `count` under a root: the hashes beside its path, lowest first."""

    index: int
    count: int
    path: tuple[bytes, ...]


def batch_digest(batch: bytes) -> bytes:
    """What consensus votes on in place of a batch."""
    return digest("batch", batch)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaves, in their order."""
    if not leaves:
        return EMPTY_ROOT
    level = [_leaf(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _up(level)
    return level[0]


def merkle_proof(leaves: Sequence[bytes], index: int) -> Proof:
    """A proof that `leaves[index]` belongs to their root; IndexError where there is no such leaf."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    level, at, path = [_leaf(leaf) for leaf in leaves], index, []
    while len(level) > 1:
        if at ^ 1 < len(level):
            path.append(level[at ^ 1])
        level, at = _up(level), at >> 1
    return Proof(index, len(leaves), tuple(path))


def verify_proof(root: bytes, leaf: bytes, proof: Proof) -> bool:
    """Whether this leaf has this index among this many leaves under this root."""
    at, last, path = proof.index, proof.count - 1, iter(proof.path)
    if not 0 <= at <= last:
        return False
    found = _leaf(leaf)
    while last:
        if at ^ 1 <= last:
            beside = next(path, None)
            if beside is None:
                return False
            found = _pair(beside, found) if at & 1 else _pair(found, beside)
        at, last = at >> 1, last >> 1
    return next(path, None) is None and found == root


def why_invalid(
    block: Block, parent: Header | None, chain_id: bytes, keyring: Keyring, quorum: int
) -> str | None:
    """Why this block does not follow its parent (None: the genesis), or None where it does.

    Checked: height, parent hash, time not running back, the batch under its digest, and the commit
    certificate of `quorum` distinct members for exactly this batch at exactly this height.
    """
    header, certificate = block.header, block.certificate
    before = (0, GENESIS_PARENT, 0) if parent is None else (parent.height, parent.hash, parent.time_ns)
    if header.height != before[0] + 1:
        return f"height {header.height} after {before[0]}"
    if header.parent != before[1]:
        return "it names another parent"
    if header.time_ns < before[2]:
        return f"time {header.time_ns} before its parent's {before[2]}"
    if header.batch_digest != batch_digest(block.batch):
        return "the batch is not the one the header names"
    if certificate is None:
        return "no commit certificate"
    if (certificate.kind, certificate.seq, certificate.digest) != (
        COMMIT,
        header.height,
        header.batch_digest,
    ):
        return "the certificate is for something else"
    if not certificate.valid(chain_id, keyring, quorum):
        return f"the certificate does not prove {quorum} votes"
    return None


def _leaf(leaf: bytes) -> bytes:
    return sha256(_LEAF + leaf).digest()


def _pair(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()


def _up(level: list[bytes]) -> list[bytes]:
    paired = [_pair(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[-1:] if len(level) % 2 else paired
