"""Damage to a store is noticed or harmless, and what peers cannot send again is never lost in silence."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CHAIN, contents, lived_in, tamper
from tradebft.chain import wal
from tradebft.chain.store import Store, StoreError
from tradebft.chain.store_rescue import rescue

# --- damage ---


def read_or_noticed(path: Path) -> tuple[dict | None, bool]:
    """What a damaged store holds if nothing notices; and whether a torn log was reported."""
    try:
        store = Store.open(path, CHAIN)
    except StoreError:
        return None, False
    try:
        if store.check():
            return None, store.torn
        return contents(store), store.torn
    finally:
        store.close()


def test_every_flipped_bit_is_noticed_or_harmless():
    """One bit of every few bytes, and all bits of where SQLite keeps its own order."""
    with lived_in(clean=True) as (path, states):
        whole = path.read_bytes()
        noticed = 0
        order = [at for page in range(0, len(whole), 4096) for at in range(page, page + 24)]
        places = sorted({*range(100), *order[::5], *range(0, len(whole), 197)})
        for count, at in enumerate(places):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << count % 8
            path.write_bytes(damaged)
            found, _ = read_or_noticed(path)
            assert found in (None, states[-1]), f"byte {at} of {len(whole)}, bit {count % 8}"
            noticed += found is None
        assert noticed > len(places) // 3


@pytest.mark.slow
def test_every_seventh_byte_of_the_file():
    """All of them were tried once; it takes five minutes."""
    with lived_in(clean=True) as (path, states):
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << at % 8
            path.write_bytes(damaged)
            found, _ = read_or_noticed(path)
            assert found in (None, states[-1]), f"byte {at} of {len(whole)}, bit {at % 8}"


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_in_the_log_of_a_crash_loses_nothing_in_silence(where, bit):
    """Noticed; or harmless; or, in the last transaction, told as torn: then all before it is there."""
    with lived_in(clean=False) as (path, states):
        log = path.with_name("store-wal")
        damaged = bytearray(log.read_bytes())
        damaged[int(where * len(damaged))] ^= 1 << bit
        log.write_bytes(damaged)
        found, torn = read_or_noticed(path)
        assert found in (None, states[-1]) or (torn and found == states[-2])


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_truncated_file_is_noticed_and_a_truncated_log_holds_what_was_committed_until_there(where, clean):
    with lived_in(clean=clean) as (path, states):
        cut = path if clean else path.with_name("store-wal")
        whole = cut.read_bytes()
        cut.write_bytes(whole[: int(where * len(whole))])
        found, _ = read_or_noticed(path)
        assert found is None if clean else (found is None or found in states)


def test_a_row_that_somebody_changed_or_took_away_is_noticed():
    """By hand, with SQLite's own order kept."""
    for statement, table in (
        ("UPDATE block SET data = x'00' WHERE seq = 7", "block"),
        ("UPDATE block SET seq = 99 WHERE seq = 7", "block"),
        ("DELETE FROM block WHERE seq = 12", "block"),
        ("DELETE FROM record WHERE place = (SELECT max(place) FROM record)", "record"),
        ("UPDATE record SET kind = 'Prepared'", "record"),
        ("UPDATE record SET place = -place", "record"),
        ("UPDATE snapshot SET proof = NULL", "snapshot"),
        ("UPDATE chunk SET part = 'table' WHERE number = 1", "chunk"),
        ("DELETE FROM meta WHERE name = 'a'", "meta"),
        ("INSERT INTO meta SELECT 'c', data, sum FROM meta WHERE name = 'a'", "meta"),
    ):
        with lived_in(clean=True) as (path, _):
            tamper(path, statement)
            store = Store.open(path, CHAIN)
            found = store.check()
            assert {damage.table for damage in found} == {table}, statement
            store.close()


def test_an_older_row_in_place_of_a_newer_one_is_noticed(tmp_path):
    """As when one page of the file is from before: its checksum holds, and the number of rows is right."""
    path, rows = tmp_path / "store", []
    for value in (b"old", b"new"):
        store = Store.open(path, CHAIN)
        store.put_meta("a", value)
        store.commit()
        store.close()
        connection = sqlite3.connect(path)
        rows += connection.execute("SELECT data, sum FROM meta WHERE name = 'a'").fetchall()
        connection.close()
    data, sum_ = rows[0]
    tamper(path, f"UPDATE meta SET data = x'{data.hex()}', sum = x'{sum_.hex()}' WHERE name = 'a'")
    store = Store.open(path, CHAIN)
    assert [damage.table for damage in store.check()] == ["meta"]
    store.close()


def test_a_damaged_block_is_named_never_read_and_can_be_cut_off():
    with lived_in(clean=True) as (path, states):
        tamper(path, "UPDATE block SET data = x'00' WHERE seq = 9")
        store = Store.open(path, CHAIN)
        assert [(damage.table, damage.seq) for damage in store.check()] == [("block", 9)]
        with pytest.raises(StoreError, match="damaged"):
            store.block(9)
        assert store.block(10) is not None
        store.truncate_from(9)
        store.commit()
        assert store.check() == []
        assert [row.seq for row in store.blocks()] == [5, 6, 7, 8]
        assert store.height == 8
        assert [*store.records()] == states[-1]["records"]
        store.close()


# --- the log by itself ---


def test_the_log_is_judged_as_sqlite_judges_it():
    with lived_in(clean=False) as (path, _):
        log = path.with_name("store-wal").read_bytes()
        assert wal.state_of(log) == "whole"
        assert wal.state_of(b"") == wal.state_of(bytes(40)) == "whole"
        assert wal.state_of(log[:-100]) == "whole"  # a transaction that was never finished
        size = 4096 + 24
        last = len(log) - size
        assert wal.state_of(log[: last + 100] + bytes([log[last + 100] ^ 1]) + log[last + 101 :]) == "torn"
        for at in (3, 17, 40, 32 + 8, 32 + 17, 32 + 24 + 5):
            assert wal.state_of(log[:at] + bytes([log[at] ^ 4]) + log[at + 1 :]) == "damaged", at


# --- rescue ---


def test_a_whole_store_is_not_touched_by_a_rescue():
    with lived_in(clean=True) as (path, _):
        before = path.read_bytes()
        assert rescue(path, CHAIN) == []
        assert path.read_bytes() == before
        assert [found.name for found in path.parent.iterdir()] == ["store"]


def test_a_damaged_block_is_left_out_and_everything_else_stays():
    with lived_in(clean=True) as (path, states):
        tamper(path, "UPDATE block SET data = x'00' WHERE seq = 9")
        assert [(damage.table, damage.seq) for damage in rescue(path, CHAIN)] == [("block", 9)]
        assert sorted(found.name for found in path.parent.iterdir()) == ["store", "store.damaged"]
        store = Store.open(path, CHAIN)
        assert store.check() == []
        expected = {**states[-1], "blocks": [row for row in states[-1]["blocks"] if row.seq != 9]}
        assert contents(store) == expected
        store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chunk SET data = x'00' WHERE number = 1 AND seq = 8",
        "DELETE FROM chunk WHERE number = 2 AND seq = 12",
        "UPDATE snapshot SET manifest = x'00' WHERE seq = 8",
        "DELETE FROM snapshot WHERE seq = 12",
    ],
)
def test_without_a_snapshot_only_what_this_member_alone_knows_is_kept(statement):
    with lived_in(clean=True) as (path, states):
        tamper(path, statement)
        assert rescue(path, CHAIN)[0].table == "snapshot"
        store = Store.open(path, CHAIN)
        assert store.check() == []
        found = contents(store)
        assert (found["blocks"], found["snapshots"], found["chunks"], found["height"]) == ([], [], {}, 0)
        assert (found["records"], found["meta"]) == (states[-1]["records"], states[-1]["meta"])
        store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET data = x'00' WHERE seq = 12",
        "DELETE FROM record WHERE seq = 12",
        "DELETE FROM meta WHERE name = 'a'",
    ],
)
def test_a_store_that_lost_votes_is_not_rescued(statement):
    with lived_in(clean=True) as (path, _):
        tamper(path, statement)
        before = path.read_bytes()
        with pytest.raises(StoreError, match="what only this member knew is lost"):
            rescue(path, CHAIN)
        assert path.read_bytes() == before


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_whatever_bit_flips_a_rescue_gives_a_whole_store_or_says_why_not(where, bit):
    with lived_in(clean=True) as (path, states):
        damaged = bytearray(path.read_bytes())
        damaged[int(where * len(damaged))] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            rescue(path, CHAIN)
        except StoreError:
            return
        store = Store.open(path, CHAIN)
        assert store.check() == []
        found, true = contents(store), states[-1]
        assert (found["records"], found["meta"]) == (true["records"], true["meta"])
        assert set(found["blocks"]) <= set(true["blocks"])
        assert found["chunks"] in (true["chunks"], {})
        assert found["snapshots"] in (true["snapshots"], [])
        store.close()
