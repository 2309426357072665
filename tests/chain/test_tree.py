"""The Merkle map: a root that depends on the contents and on nothing else."""

from functools import cache
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tradebft.chain.tree import MerkleMap, root_of, verify_map_proof


def h(number):
    return sha256(str(number).encode()).digest()


def crowded(number):
    """Keys that meet in few buckets."""
    return bytes([0, number % 3]) + h(number)[2:]


changes = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 3)), max_size=6), max_size=6
)


@given(changes)
def test_the_root_after_any_history_is_the_root_of_what_is_left(blocks):
    tree, left = MerkleMap(), {}
    for block in blocks:
        tree.update((crowded(k), None if v is None else h(v)) for k, v in block)
        for k, v in block:
            if v is None:
                left.pop(crowded(k), None)
            else:
                left[crowded(k)] = h(v)
        assert tree.root == root_of(left)
    assert root_of(dict(reversed(left.items()))) == root_of(left)


@cache
def empty(height):
    return sha256(b"\x01" + empty(height - 1) * 16 if height else b"\x02").digest()


def by_definition(pairs, nibbles=""):
    """The node over these pairs in the order of their keys, all of which begin with these nibbles."""
    if not pairs:
        return empty(4 - len(nibbles))
    if len(nibbles) == 4:
        return sha256(b"\x02" + b"".join(key + value for key, value in pairs)).digest()
    below = [nibbles + nibble for nibble in "0123456789abcdef"]
    children = [by_definition([p for p in pairs if p[0].hex().startswith(start)], start) for start in below]
    return sha256(b"\x01" + b"".join(children)).digest()


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 3), max_size=12), st.sampled_from([crowded, h]))
def test_the_root_is_what_its_definition_says(numbers, key):
    contents = {key(k): h(v) for k, v in numbers.items()}
    assert root_of(contents) == by_definition(sorted(contents.items()))


def test_different_contents_have_different_roots():
    contents = [{}, {h(1): h(1)}, {h(1): h(2)}, {h(2): h(1)}, {h(1): h(1), h(2): h(1)}]
    assert len({root_of(c) for c in contents}) == len(contents)


@given(st.sets(st.integers(0, 40), max_size=12), st.integers(0, 40))
def test_presence_and_absence_can_be_proven_and_not_mistaken(numbers, asked):
    tree = MerkleMap()
    root = tree.update((crowded(n), h(n)) for n in numbers)
    key, proof = crowded(asked), tree.prove(crowded(asked))
    value = h(asked) if asked in numbers else None
    assert verify_map_proof(root, key, value, proof)
    assert not verify_map_proof(root, key, h("another"), proof)
    assert not verify_map_proof(root, key, None if value else h(asked), proof)
    assert not verify_map_proof(bytes(32), key, value, proof)
    assert not verify_map_proof(root, key, value, replace(proof, siblings=proof.siblings[1:]))
    cut = (*proof.siblings[:-1], proof.siblings[-1][1:])
    assert not verify_map_proof(root, key, value, replace(proof, siblings=cut))
    lengthened = (*proof.siblings[:-1], (*proof.siblings[-1], b""))
    assert not verify_map_proof(root, key, value, replace(proof, siblings=lengthened))
    assert not verify_map_proof(root, b"\xff\xff" + key[2:], value, proof) or value is None
    if value:
        emptied = replace(proof, bucket=tuple(p for p in proof.bucket if p[0] != key))
        assert not verify_map_proof(root, key, None, emptied)
