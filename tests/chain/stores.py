"""Stores for the tests: one that was lived in, and what is on a disk after a crash."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from tradebft.chain.store import Store

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


def after_a_crash(path: Path) -> Path:
    """What is on the disk at this moment, somewhere else: file and log, as a process that is killed leaves them."""
    there = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
    for suffix in ("", "-wal"):
        if (found := path.with_name(path.name + suffix)).exists():
            shutil.copy(found, there.with_name(there.name + suffix))
    return there


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


def tamper(path: Path, statement: str) -> None:
    """Change a row by hand, with SQLite's own order kept."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
