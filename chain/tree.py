"""A Merkle map: one 32-byte root over all objects, cheap to update after each block.

A tree of fixed depth 4 in which every inner node has 16 children, kept as a heap: node 0 is the root, node i
has children 16i + 1 to 16i + 16, and the 65,536 leaves are buckets. An object's key decides its bucket by its
hash; a bucket's hash covers its (key hash, value hash) pairs in the order of key hash. So the root depends on
what is in the map and on nothing else, neither order nor history. A block changes a few keys; only their paths
are hashed again, each shared node once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

DEPTH: Final = 4
FANOUT: Final = 16
_BUCKETS: Final = FANOUT**DEPTH
_FIRST_BUCKET: Final = (_BUCKETS - 1) // (FANOUT - 1)  # its node; before it lie the inner ones

# First byte of what is hashed, so that a bucket is never taken for an inner node.
_INNER: Final = b"\x01"
_BUCKET: Final = b"\x02"
_EMPTY: Final = sha256(_BUCKET).digest()


def _blank() -> list[bytes]:
    """The heap of an empty map: each level's nodes are the same 32 bytes."""
    levels = [_EMPTY]
    for _ in range(DEPTH):
        levels.append(_inner_hash([levels[-1]] * FANOUT))
    return [node for depth in range(DEPTH + 1) for node in [levels[DEPTH - depth]] * FANOUT**depth]


def _inner_hash(children: Iterable[bytes]) -> bytes:
    return sha256(_INNER + b"".join(children)).digest()


_BLANK: Final = _blank()


class MapProof(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a key has its value (or has none) under a root: its bucket's pairs, and for each level on the way
    up the hashes of the 15 nodes beside the path, in their order.
    """

    bucket: tuple[tuple[bytes, bytes], ...]
    siblings: tuple[tuple[bytes, ...], ...]


class MerkleMap:
    """Hashes of keys to hashes of values. Both sides are 32 bytes."""

    __slots__ = ("_buckets", "_nodes")

    def __init__(self) -> None:
        self._nodes = _BLANK.copy()
        self._buckets: dict[int, dict[bytes, bytes]] = {}

    @property
    def root(self) -> bytes:
        return self._nodes[0]

    def update(self, changes: Iterable[tuple[bytes, bytes | None]]) -> bytes:
        """Set (or with None, remove) the value hashes of these key hashes; returns the new root."""
        buckets, nodes = self._buckets, self._nodes
        touched: dict[int, dict[bytes, bytes]] = {}
        for key, value in changes:
            index = _bucket_of(key)
            bucket = touched[index] = buckets.setdefault(index, {})
            if value is None:
                bucket.pop(key, None)
            else:
                bucket[key] = value
        for index, bucket in touched.items():
            nodes[_FIRST_BUCKET + index] = _bucket_hash(bucket)
        dirty = {_FIRST_BUCKET + index for index in touched}
        for _ in range(DEPTH):
            dirty = {(node - 1) // FANOUT for node in dirty}
            for node in dirty:
                first = node * FANOUT + 1
                # `_inner_hash`, written out: this is where a block's time goes.
                nodes[node] = sha256(_INNER + b"".join(nodes[first : first + FANOUT])).digest()
        return nodes[0]

    def prove(self, key: bytes) -> MapProof:
        """A proof of what this key hash maps to, or that it maps to nothing."""
        index = _bucket_of(key)
        pairs = tuple(sorted(self._buckets.get(index, {}).items()))
        siblings = []
        node = _FIRST_BUCKET + index
        while node:
            parent = (node - 1) // FANOUT
            first = parent * FANOUT + 1
            siblings.append(tuple(self._nodes[first:node] + self._nodes[node + 1 : first + FANOUT]))
            node = parent
        return MapProof(pairs, tuple(siblings))


def verify_map_proof(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> bool:
    """Whether the proof shows that under this root the key hash maps to this value hash (None: to
    nothing).
    """
    keys = [pair[0] for pair in proof.bucket]
    if [len(level) for level in proof.siblings] != [FANOUT - 1] * DEPTH or keys != sorted(set(keys)):
        return False
    index = _bucket_of(key)
    bucket = dict(proof.bucket)
    if any(_bucket_of(other) != index for other in keys) or bucket.get(key) != value:
        return False
    found = _bucket_hash(bucket)
    for level in proof.siblings:
        index, place = divmod(index, FANOUT)
        found = _inner_hash((*level[:place], found, *level[place:]))
    return found == root


def root_of(contents: Mapping[bytes, bytes]) -> bytes:
    """The root of a map with exactly these contents, made from nothing (for checking the incremental one)."""
    tree = MerkleMap()
    return tree.update(contents.items())


def _bucket_of(key: bytes) -> int:
    return key[0] << 8 | key[1]


def _bucket_hash(pairs: Mapping[bytes, bytes]) -> bytes:
    return sha256(_BUCKET + b"".join([key + pairs[key] for key in sorted(pairs)])).digest()
