"""A store gives back what was committed, and notices everything that was not written by it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradebft.chain import wal
from tradebft.chain.store import Store, StoreError, UnfinishedLog

CHAIN = b"the identity of this chain......"


def contents(store: Store) -> dict:
    """Everything that can be read."""
    return {
        "blocks": [*store.blocks()],
        "records": [*store.records()],
        "snapshots": store.snapshots(),
        "chunks": {key: store.chunks(*key) for key in store.chunked()},
        "meta": {name: store.meta(name) for name in ("a", "b", "identity")},
        "height": store.height,
    }


# --- a model ---


class Model:
    """The same store as plain dictionaries, with what it was at the last commit."""

    def __init__(self) -> None:
        self.blocks: dict = {}
        self.records: list = []
        self.snapshots: dict = {}
        self.parts: dict = {}
        self.metas: dict = {"a": None, "b": None, "identity": CHAIN}

    def contents(self) -> dict:
        return {
            "blocks": [(seq, *self.blocks[seq]) for seq in sorted(self.blocks)],
            "records": list(self.records),
            "snapshots": [(seq, *self.snapshots[seq]) for seq in sorted(self.snapshots)],
            "chunks": {key: chunks for key, chunks in self.parts.items() if chunks},
            "meta": dict(self.metas),
            "height": max(self.blocks, default=0),
        }

    def copy(self) -> Model:
        made = Model()
        made.blocks, made.records, made.snapshots = dict(self.blocks), [*self.records], dict(self.snapshots)
        made.parts, made.metas = dict(self.parts), dict(self.metas)
        return made

    def put_meta(self, name, data):
        self.metas[name] = data

    def put_block(self, seq, data, root):
        self.blocks[seq] = (data, root)

    def drop_blocks(self, through):
        self.blocks = {seq: block for seq, block in self.blocks.items() if seq > through}

    def truncate_from(self, seq):
        self.blocks = {at: block for at, block in self.blocks.items() if at < seq}

    def put_record(self, kind, seq, data, first):
        self.records.insert(0 if first else len(self.records), (kind, seq, data))

    def drop_records(self, kind, through):
        self.records = [
            r
            for r in self.records
            if not ((kind is None or r[0] == kind) and (through is None or r[1] <= through))
        ]

    def put_snapshot(self, seq, manifest, proof):
        self.snapshots[seq] = (manifest, proof)

    def drop_snapshot(self, seq):
        self.snapshots.pop(seq, None)

    def put_chunks(self, part, seq, chunks):
        self.parts[part, seq] = tuple(chunks)

    def drop_chunks(self, part, seq):
        self.parts.pop((part, seq), None)


seqs = st.integers(0, 12)
some = st.one_of(st.binary(max_size=40), st.integers(0, 9000).map(lambda n: b"%d " % n * 1000))
part = st.sampled_from(["table", "application"])
kind = st.sampled_from(["PrePrepare", "ViewChange"])
deed = st.one_of(
    st.tuples(st.just("put_block"), seqs, some, st.binary(max_size=4)),
    st.tuples(st.just("put_block"), seqs, some, st.binary(max_size=4)),
    st.tuples(st.just("drop_blocks"), seqs),
    st.tuples(st.just("truncate_from"), seqs),
    st.tuples(st.just("put_record"), kind, seqs, some, st.booleans()),
    st.tuples(st.just("put_record"), kind, seqs, some, st.booleans()),
    st.tuples(st.just("drop_records"), st.none() | kind, st.none() | seqs),
    st.tuples(st.just("put_snapshot"), seqs, some, st.none() | some),
    st.tuples(st.just("drop_snapshot"), seqs),
    st.tuples(st.just("put_chunks"), part, seqs, st.lists(some, max_size=3)),
    st.tuples(st.just("drop_chunks"), part, seqs),
    st.tuples(st.just("put_meta"), st.sampled_from(["a", "b"]), some),
    st.tuples(st.just("commit")),
    st.tuples(st.just("close")),
    st.tuples(st.just("crash")),
)


def after_a_crash(path: Path) -> Path:
    """What is on the disk at this moment, somewhere else: file and log, as a process that is killed leaves them."""
    there = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
    for suffix in ("", "-wal"):
        if (found := path.with_name(path.name + suffix)).exists():
            shutil.copy(found, there.with_name(there.name + suffix))
    return there


@settings(max_examples=80)
@given(st.lists(deed, max_size=40))
def test_it_holds_what_was_committed_whatever_happens(deeds):
    with scratch() as folder:
        path = folder / "store"
        store, model, durable = Store.open(path, CHAIN), Model(), Model()
        for name, *values in deeds:
            if name == "commit":
                store.commit()
                durable = model.copy()
            elif name in ("close", "crash"):
                if name == "crash":
                    path = after_a_crash(path)
                store.close()
                store, model = Store.open(path, CHAIN), durable.copy()
                assert not store.torn
            else:
                getattr(store, name)(*values)
                getattr(model, name)(*values)
            assert contents(store) == model.contents()
        assert store.check() == []
        store.close()


def test_single_things_are_found_and_absent_ones_are_none(tmp_path):
    store = Store.open(tmp_path / "store", CHAIN)
    store.put_block(3, b"block", b"root")
    store.put_chunks("table", 4, [b"one", b"two"])
    store.put_snapshot(4, b"manifest")
    assert store.block(3) == (3, b"block", b"root")
    assert store.block(2) is None
    assert store.chunk("table", 4, 1) == b"two"
    assert (
        store.chunk("table", 4, 2) is store.chunk("application", 4, 0) is store.chunk("table", 5, 0) is None
    )
    assert store.snapshot(4) == (4, b"manifest", None)
    assert store.snapshot(3) is None
    assert [row.seq for row in store.blocks(4)] == []
    store.close()


# --- files that are something else ---


def refused(path: Path, identity: bytes | None = CHAIN, **options) -> str:
    with pytest.raises(StoreError) as error:
        Store.open(path, identity, **options)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_another_chains_store_is_refused(tmp_path):
    Store.open(tmp_path / "store", CHAIN).close()
    assert "another chain" in refused(tmp_path / "store", b"another identity................")
    store = Store.open(tmp_path / "store")
    assert store.identity == CHAIN
    store.close()


@pytest.mark.parametrize("text", [b"hello", b"x" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "store"
    path.write_bytes(text)
    assert "no store" in refused(path)
    assert path.read_bytes() == text


def test_an_empty_file_is_no_new_store(tmp_path):
    """A store that was cut down to nothing: to begin anew would be to forget every vote."""
    path = tmp_path / "store"
    path.write_bytes(b"")
    assert "empty" in refused(path)


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "store"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE films (title TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "no store" in refused(path, read_only=True)
    assert path.read_bytes() == before
    assert "no store" in refused(path)


def test_a_newer_format_is_refused_by_its_number(tmp_path):
    path = tmp_path / "store"
    Store.open(path, CHAIN).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    assert "format 2" in refused(path)


def test_a_folder_and_a_missing_folder_are_refused(tmp_path):
    refused(tmp_path)
    refused(tmp_path / "nowhere" / "store")
    assert "no such file" in refused(tmp_path / "store", None)
    assert "no such file" in refused(tmp_path / "store", read_only=True)


def test_two_processes_cannot_have_one_store(tmp_path):
    path = tmp_path / "store"
    store = Store.open(path, CHAIN)
    script = (
        "import sys; from tradebft.chain.store import Store, StoreError\n"
        "try: Store.open(sys.argv[1], read_only=sys.argv[2] == 'ro')\n"
        "except StoreError as error: print(error)"
    )
    for mode in ("rw", "ro"):
        done = subprocess.run([sys.executable, "-c", script, path, mode], capture_output=True, text=True)
        assert "another process has it open" in done.stdout, done
    store.put_block(1, b"", b"")
    store.commit()
    store.close()
    done = subprocess.run([sys.executable, "-c", script, path, "ro"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_to_look_at_a_store_changes_nothing(tmp_path):
    path = tmp_path / "store"
    store = Store.open(path, CHAIN)
    store.put_block(1, b"block", b"root")
    store.commit()
    crashed = after_a_crash(path)
    store.close()
    before = path.read_bytes()
    store = Store.open(path, read_only=True)
    assert (store.height, store.check()) == (1, [])
    with pytest.raises(StoreError):
        store.put_block(2, b"", b"")
    store.close()
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["store"]
    with pytest.raises(UnfinishedLog):
        Store.open(crashed, read_only=True)


def test_a_half_made_store_is_made_anew(tmp_path):
    """A crash while it was made leaves a file of another name."""
    (tmp_path / "store.new").write_bytes(b"half")
    (tmp_path / "store.new-wal").write_bytes(b"of it")
    store = Store.open(tmp_path / "store", CHAIN)
    assert store.check() == []
    store.close()
    assert [found.name for found in tmp_path.iterdir()] == ["store"]


# --- damage ---


@lru_cache
def a_life() -> tuple[bytes, bytes, bytes, list[dict]]:
    """A small store with something of everything: closed; killed (file and log); what it held at each commit."""
    with scratch() as folder:
        path = folder / "store"
        store = Store.open(path, CHAIN)
        states = [contents(store)]
        for seq in range(1, 13):
            store.put_block(seq, b"block %d " % seq * (600 if seq == 5 else 9), b"root %d" % seq)
            store.put_record("PrePrepare", seq, b"vote %d " % seq * 20)
            if seq % 4 == 0:
                store.put_snapshot(seq, b"manifest %d" % seq, b"proof")
                store.put_chunks("application", seq, [b"chunk %d" % k * 300 for k in range(3)])
                store.drop_records(through=seq - 2)
                store.drop_blocks(seq - 8)
            store.put_meta("a", b"%d" % seq)
            store.commit()
            states.append(contents(store))
        file, log = path.read_bytes(), path.with_name("store-wal").read_bytes()
        store.close()
        return path.read_bytes(), file, log, states


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder, in memory if there is one: what is tested here is not how long a disk takes."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def lived_in(clean: bool) -> Iterator[tuple[Path, list[dict]]]:
    """That store, as it was closed or as a crash left it."""
    closed, file, log, states = a_life()
    with scratch() as folder:
        path = folder / "store"
        path.write_bytes(closed if clean else file)
        if not clean:
            path.with_name("store-wal").write_bytes(log)
        yield path, states


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
        places = sorted({*range(100), *order[::3], *range(0, len(whole), 97)})
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


@settings(max_examples=150)
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


@settings(max_examples=100)
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
            connection = sqlite3.connect(path)
            connection.execute(statement)
            connection.commit()
            connection.close()
            store = Store.open(path, CHAIN)
            found = store.check()
            assert {damage.table for damage in found} == {table}, statement
            store.close()


def test_a_damaged_block_is_named_never_read_and_can_be_cut_off():
    with lived_in(clean=True) as (path, states):
        connection = sqlite3.connect(path)
        connection.execute("UPDATE block SET data = x'00' WHERE seq = 9")
        connection.commit()
        connection.close()
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


# --- writes that fail ---


def small(folder: Path, pages: int) -> Store:
    store = Store.open(folder / "store", CHAIN)
    store.put_block(1, b"block", b"root")
    store.commit()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    return store


def fill(store: Store) -> str:
    """Blocks until there is no room, five at a time; what was said then."""
    try:
        for seq in range(2, 10_000):
            store.put_block(seq, bytes(2_000), b"root")
            if seq % 5 == 1:
                store.commit()
    except StoreError as error:
        return str(error)
    raise AssertionError("there was room for all of it")


def holds_what_was_committed(path: Path) -> None:
    store = Store.open(path, CHAIN)
    assert store.check() == []
    seqs = [row.seq for row in store.blocks()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) % 5 == 1
    assert len(seqs) > 5
    store.put_block(len(seqs) + 1, b"and on it goes", b"root")
    store.commit()
    store.close()


def test_a_full_disk_is_one_line_and_nothing_committed_is_lost(tmp_path):
    store = small(tmp_path, 60)
    line = fill(store)
    assert "full" in line
    assert "\n" not in line
    for step in (store.commit, store.check, lambda: store.block(1), lambda: store.put_meta("a", b"")):
        with pytest.raises(StoreError, match="nothing was written since"):
            step()  # whoever went on would take for durable what is not
    store.close()
    holds_what_was_committed(tmp_path / "store")


def test_a_file_system_that_is_really_full(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        store = small(folder, 1_000_000)
        assert "full" in (line := fill(store)) or "I/O" in line
        store.close()
        for name in ("store", "store-wal"):
            if (folder / name).exists():
                shutil.copy(folder / name, tmp_path / name)
        holds_what_was_committed(tmp_path / "store")
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_folder_is_one_line(tmp_path):
    """Root may write anywhere, so the folder is one that nobody can write to."""
    folder = Path("/proc/self")
    assert refused(folder / "store")


def test_a_read_only_file_is_refused_for_writing(tmp_path):
    path = tmp_path / "store"
    Store.open(path, CHAIN).close()
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", tmp_path, tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        refused(path)
        store = Store.open(path, read_only=True)
        assert store.check() == []
        store.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_closed_store_says_so(tmp_path):
    store = Store.open(tmp_path / "store", CHAIN)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.put_block(1, b"", b"")


@pytest.mark.parametrize("bad", [-(1 << 70), 1 << 64])
def test_a_number_that_does_not_fit_is_one_line(tmp_path, bad):
    store = Store.open(tmp_path / "store", CHAIN)
    with pytest.raises(StoreError) as error:
        store.put_block(bad, b"", b"")
    assert "\n" not in str(error.value)
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
