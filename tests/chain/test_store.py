"""A store gives back what was committed, and notices everything that was not written by it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CHAIN, after_a_crash, contents, scratch
from tradebft.chain.store import Store, StoreError, UnfinishedLog

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
    assert "the file is empty" in refused(path)


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


@pytest.mark.parametrize("number", [1, 3])
def test_an_earlier_or_a_newer_format_is_refused_by_its_number(tmp_path, number):
    path = tmp_path / "store"
    Store.open(path, CHAIN).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    assert f"format {number}" in refused(path)


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
