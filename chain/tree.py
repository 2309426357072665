"""A Merkle map: one 32-byte root over all objects, cheap to update after each block.

A binary tree of fixed depth 16, kept as a heap: node 1 is the root, node i has children 2i and 2i+1, the
65,536 leaves are buckets. An object's key decides its bucket by its hash; a bucket's hash covers its (key
hash, value hash) pairs in the order of key hash. So the root depends on what is in the map and on nothing
else, neither order nor history. A block changes a few keys; only their paths are hashed again, each shared
node once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

DEPTH: Final = 16
_BUCKETS: Final = 1 << DEPTH

# First byte of what is hashed, so that a bucket is never taken for an inner node.
_INNER: Final = b"\x01"
_BUCKET: Final = b"\x02"
_EMPTY: Final = sha256(_BUCKET).digest()


def _blank() -> list[bytes]:
    """The heap of an empty map: each level's nodes are the same 32 bytes."""
    levels = [_EMPTY]
    for _ in range(DEPTH):
        levels.append(sha256(_INNER + levels[-1] + levels[-1]).digest())
    nodes = [b""]
    for depth in range(DEPTH + 1):
        nodes.extend([levels[DEPTH - depth]] * (1 << depth))
    return nodes


_BLANK: Final = _blank()


class MapProof(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a key has its value (or has none) under a root: its bucket's pairs, and the hashes beside the
    path.
    """

    bucket: tuple[tuple[bytes, bytes], ...]
    siblings: tuple[bytes, ...]


class MerkleMap:
    """Hashes of keys to hashes of values. Both sides are 32 bytes."""

    __slots__ = ("_buckets", "_nodes")

    def __init__(self) -> None:
        self._nodes = _BLANK.copy()
        self._buckets: dict[int, dict[bytes, bytes]] = {}

    @property
    def root(self) -> bytes:
        return self._nodes[1]

    def update(self, changes: Iterable[tuple[bytes, bytes | None]]) -> bytes:
        """Set (or with None, remove) the value hashes of these key hashes; returns the new root."""
        buckets, nodes = self._buckets, self._nodes
        dirty: set[int] = set()
        for key, value in changes:
            index = _bucket_of(key)
            bucket = buckets.setdefault(index, {})
            if value is None:
                bucket.pop(key, None)
            else:
                bucket[key] = value
            dirty.add(_BUCKETS + index)
        for index in dirty:
            bucket = buckets[index - _BUCKETS]
            nodes[index] = _bucket_hash(bucket.items() if len(bucket) < 2 else sorted(bucket.items()))
        # Few paths meet only near the root: below `top` each is walked alone, from there on all go up together, so that
        # a node that they share is hashed once.
        top = 1 << min(DEPTH, max(0, len(dirty) - 1).bit_length())
        meeting = set()
        for index in dirty:
            while index >= 2 * top:
                index >>= 1
                left = index + index
                nodes[index] = sha256(_INNER + nodes[left] + nodes[left + 1]).digest()
            meeting.add(index)
        while top > 1:
            top >>= 1
            meeting = {index >> 1 for index in meeting}
            for index in meeting:
                left = index + index
                nodes[index] = sha256(_INNER + nodes[left] + nodes[left + 1]).digest()
        return nodes[1]

    def prove(self, key: bytes) -> MapProof:
        """A proof of what this key hash maps to, or that it maps to nothing."""
        index = _bucket_of(key)
        pairs = tuple(sorted(self._buckets.get(index, {}).items()))
        siblings = []
        node = _BUCKETS + index
        while node > 1:
            siblings.append(self._nodes[node ^ 1])
            node >>= 1
        return MapProof(pairs, tuple(siblings))


def verify_map_proof(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> bool:
    """Whether the proof shows that under this root the key hash maps to this value hash (None: to
    nothing).
    """
    keys = [pair[0] for pair in proof.bucket]
    if len(proof.siblings) != DEPTH or keys != sorted(set(keys)):
        return False
    index = _bucket_of(key)
    if any(_bucket_of(other) != index for other in keys) or dict(proof.bucket).get(key) != value:
        return False
    node, found = _BUCKETS + index, _bucket_hash(proof.bucket)
    for sibling in proof.siblings:
        pair = found + sibling if node % 2 == 0 else sibling + found
        node, found = node >> 1, sha256(_INNER + pair).digest()
    return found == root


def root_of(contents: Mapping[bytes, bytes]) -> bytes:
    """The root of a map with exactly these contents, made from nothing (for checking the incremental one)."""
    tree = MerkleMap()
    return tree.update(contents.items())


def _bucket_of(key: bytes) -> int:
    return key[0] << 8 | key[1]


def _bucket_hash(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return sha256(_BUCKET + b"".join([key + value for key, value in pairs])).digest()
