"""Pages of a table: what a snapshot encodes again is what changed, and a copy begins with the same pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain import codec
from tradebft.chain.ledger import Ledger
from tradebft.chain.pages import ROWS, Pages


def table(*steps):
    rows, pages = {}, None
    pages = Pages("numbers", rows, int, int)
    for key, value in steps:
        rows[key] = value
        pages.touch(key)
    return rows, pages


def contents(pages):
    return [row for page in [*pages.full(), pages.rest()] for row in pages.read(page)]


@given(st.lists(st.tuples(st.integers(0, 3 * ROWS), st.integers()), max_size=40), st.sets(st.integers(0, 40)))
def test_pages_hold_the_rows_in_the_order_in_which_they_came(changes, looks):
    """Whenever they are looked at on the way, in the end they are those of a table that was never looked at."""
    rows, pages = table(*((key, 0) for key in range(2 * ROWS - 9)))
    for step, (key, value) in enumerate(changes):
        rows[key] = value % 2**63
        pages.touch(key)
        if step in looks:
            pages.full()
    assert contents(pages) == list(rows.items())
    _, fresh = table(*rows.items())
    assert (pages.full(), pages.rest()) == (fresh.full(), fresh.rest())
    assert len(pages.full()) == len(rows) // ROWS


def test_only_the_pages_of_rows_that_changed_are_made_anew():
    rows, pages = table(*((key, key) for key in range(4 * ROWS + 7)))
    before = list(pages.full())
    assert len(before) == 4
    for key in (2 * ROWS, 4 * ROWS + 1):
        rows[key] = -1
        pages.touch(key)
    after = pages.full()
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, True, False, True]
    assert next(iter(pages.read(after[2]))) == (2 * ROWS, -1)
    assert (4 * ROWS + 1, -1) in list(pages.read(pages.rest()))


def test_a_ledgers_pieces_stay_the_same_objects_where_nothing_changed(town):
    for _ in range(ROWS + 40):
        town.declare()
    first = town.ledger.pieces()
    assert len(first) >= 3  # the head, a page of declarations, a page of records
    goods = town.declare()
    second = town.ledger.pieces()
    kept = {id(piece) for piece in first}
    assert [id(piece) in kept for piece in second] == [False] + [True] * (len(second) - 1)
    early = next(iter(town.ledger.state.declarations.rows))
    town.lent({early: 10})
    third = town.ledger.pieces()
    changed = [piece for piece in third[1:] if id(piece) not in kept]
    assert 1 <= len(changed) <= 2  # the page of that declaration; the records may have filled one
    data = town.ledger.snapshot()
    copy = Ledger.restore(town.genesis, town.keyring, data, town.ledger.state_root)
    assert copy.pieces() == town.ledger.pieces()
    assert goods in copy.state.declarations


@given(st.lists(st.integers(0, 2**40), max_size=40), st.integers(0, 300))
def test_a_list_of_encoded_items_is_the_encoded_list(numbers, empties):
    items = [*numbers, *([None] * empties)]
    assert codec.encoded_list([codec.encode(item) for item in items]) == codec.encode(items)


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(1, 9))
def test_what_is_framed_comes_back_with_what_follows(first, after, lost):
    data = codec.framed(first)
    assert codec.unframed(data + after) == (first, after)
    with pytest.raises(codec.CodecError):
        codec.unframed(data[:-lost])


def test_pieces_are_split_where_they_were_joined():
    assert codec.split(b"abcdef", [2, 0, 4]) == [b"ab", b"", b"cdef"]
    for wrong in ([2, 3], [2, 5], [7, -1], []):
        with pytest.raises(codec.CodecError, match="6 bytes"):
            codec.split(b"abcdef", wrong)
