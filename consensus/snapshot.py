"""Snapshots: the whole replicated state at one checkpoint, cut into chunks that prove themselves.

A snapshot holds the client table (exactly-once must survive catching up: a snapshot without it executes old requests
again) and the application's state. The manifest lists the digest of every chunk, and the checkpoint that q replicas
sign at that sequence signs the manifest: whoever holds the certificate can take each chunk from anybody, check it
alone, and blame the right peer for a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.consensus.membership import Standing

CHUNK_BYTES: Final = 1 << 16  # one fits every bus's message limit, and a lost one costs little
TABLE_BYTES_MAX: Final = 1 << 28
NOTHING_KNOWN: Final[Mapping[bytes, bytes]] = MappingProxyType({})

ExecutedRows = tuple[tuple[str, int, tuple[int, ...]], ...]  # client, all up to here, and these beyond a gap
ReplyRows = tuple[tuple[str, tuple[tuple[int, int, bytes, bytes], ...]], ...]


class Table(msgspec.Struct, frozen=True, array_like=True):
    """The client table as it travels: which requests were executed, and what they were answered."""

    executed: ExecutedRows
    replies: ReplyRows


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot consists of: the application's *root* at *seq*, who belongs, and the digest of each chunk.

    The first *table* chunks are the client table, the others the application's.
    """

    seq: int
    root: bytes
    standing: Standing
    table: int
    chunks: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        """What the checkpoint at `seq` signs, bound to the standing."""
        return digest("tradebft/snapshot", encode(self))


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot on a replica's own disk, with the client table that belongs to it. Handed in at a restart."""

    manifest: Manifest
    certificate: QuorumCertificate
    table: tuple[bytes, ...]


def cut(*pieces: bytes) -> tuple[bytes, ...]:
    """Each of *pieces* in chunks of `CHUNK_BYTES`; at least one, so that nothing is also something that can be checked.

    A piece that is no larger is a chunk as it is.
    """
    chunks = [piece[at : at + CHUNK_BYTES] for piece in pieces for at in range(0, len(piece), CHUNK_BYTES)]
    return tuple(chunks) or (b"",)


def chunk_digest(chunk: bytes) -> bytes:
    """What a manifest lists for *chunk*."""
    return digest("tradebft/chunk", chunk)


def manifest_of(
    seq: int,
    root: bytes,
    standing: Standing,
    table: Iterable[bytes],
    application: Iterable[bytes],
    known: Mapping[bytes, bytes] = NOTHING_KNOWN,
) -> Manifest:
    """The manifest of a snapshot that consists of these chunks. *known*: digests of chunks, where there are any."""
    first = tuple(chunk_digest(chunk) for chunk in table)
    rest = tuple(known.get(chunk) or chunk_digest(chunk) for chunk in application)
    return Manifest(seq, root, standing, len(first), first + rest)


def table_of(chunks: Iterable[bytes]) -> Table | None:
    """The client table in these chunks; None if they hold none (they matched a manifest that q replicas signed)."""
    try:
        return decode(b"".join(chunks), Table, limit=TABLE_BYTES_MAX)
    except CodecError:
        return None
