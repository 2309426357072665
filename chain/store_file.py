"""The file behind a `Store`: its tables, its checksums, and how it is opened so that nobody else has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tradebft.chain import codec
from tradebft.chain.crypto import digest

FORMAT: Final = 2
"""1: the same tables, for chains whose state roots were over a binary tree (`chain.tree`)."""

APPLICATION: Final = 0x74424654  # SQLite's application id: "tBFT"
SUM_BYTES: Final = 16

TABLES: Final = {  # name -> key columns, data columns
    "meta": (("name",), ("data",)),
    "block": (("seq",), ("data", "root")),
    "record": (("place",), ("kind", "seq", "data")),
    "snapshot": (("seq",), ("manifest", "proof")),
    "chunk": (("part", "seq", "number"), ("data",)),
}
SCHEMA: Final = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, data BLOB, sum BLOB) WITHOUT ROWID",
    "block": "CREATE TABLE block (seq INTEGER PRIMARY KEY, data BLOB, root BLOB, sum BLOB)",
    "record": "CREATE TABLE record (place INTEGER PRIMARY KEY, kind TEXT, seq INTEGER, data BLOB, sum BLOB)",
    "snapshot": "CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, manifest BLOB, proof BLOB, sum BLOB)",
    "chunk": (
        "CREATE TABLE chunk (id INTEGER PRIMARY KEY, part TEXT, seq INTEGER, number INTEGER, data BLOB,"
        " sum BLOB, UNIQUE (seq, part, number))"
    ),
    "tally": "CREATE TABLE tally (id INTEGER PRIMARY KEY, data BLOB, sum BLOB)",
}


class StoreError(Exception):
    """A store cannot be opened, read or written. One line, which names the file."""


class StoreDamaged(StoreError):
    """It is a store, and not as it was written."""


class UnfinishedLog(StoreError):
    """It is to be read only, and a crash left a log behind. A copy of file and log can be opened for writing."""


def row_sum(identity: bytes, table: str, row: tuple[Any, ...]) -> bytes:
    """What is kept beside a row: a checksum over chain, table, key and bytes."""
    try:
        data = codec.encode((table, *row))
    except codec.CodecError:
        return b""  # a damaged row came back with a number that is none of ours
    return digest("store", identity, data)[:SUM_BYTES]


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


@contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        text = " ".join(str(error).split())
        if "locked" in text:
            text = "another process has it open"
        elif "not a database" in text:
            text = "this is no store"
        elif "malformed" in text or "corrupt" in text:
            raise StoreDamaged(f"{path}: damaged: {text}") from None
        raise StoreError(f"{path}: {text}") from None
    except (OSError, codec.CodecError, UnicodeDecodeError, OverflowError) as error:
        raise StoreError(f"{path}: {' '.join(str(error).split())}") from None


def connect(path: Path, read_only: bool) -> tuple[sqlite3.Connection, bytes]:
    """A connection that no other process can have at the same time, and the identity of the store's chain."""
    if read_only and log_of(path).exists():
        _refuse_log(path)
    # Without a log nobody has it open, and SQLite need not look for one (for which it would have to write).
    connection = _connected(path, "ro&immutable=1" if read_only else "rw")
    try:
        identity = identity_in(path, connection)  # before anything is written to what may be somebody else's
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if not read_only:
            connection.execute("PRAGMA synchronous = FULL")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreDamaged(f"{path}: damaged: its log cannot be used ({mode})")
            connection.execute("BEGIN IMMEDIATE")  # takes the lock, which stays until the file is closed
            connection.execute("COMMIT")
        return connection, identity
    except BaseException:
        connection.close()
        raise


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=0)
    # Said before the log is looked at, so that there is no file of shared memory.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _refuse_log(path: Path) -> None:
    """SQLite has to write before it can read what a log holds."""
    connection = _connected(path, "ro")
    try:
        connection.execute("SELECT * FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
    finally:
        connection.close()
    raise UnfinishedLog(f"{path}: it was not closed, and its log cannot be read without writing")


def identity_in(path: Path, connection: sqlite3.Connection) -> bytes:
    """Whose store it is; StoreError where it is none, or not as this version writes them."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    schema = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if application != APPLICATION and set(schema) != set(SCHEMA):
        raise StoreError(f"{path}: this is no store")
    if 0 < version != FORMAT:  # 0: whoever made the file named none
        raise StoreError(f"{path}: format {version}; this version knows format {FORMAT} only")
    if (application, version, schema) != (APPLICATION, FORMAT, SCHEMA):
        raise StoreDamaged(f"{path}: damaged: its tables are not as they were made")
    row = connection.execute("SELECT data, sum FROM meta WHERE name = 'identity'").fetchone()
    if row is None or row[1] != row_sum(row[0], "meta", ("identity", row[0])):
        raise StoreDamaged(f"{path}: damaged: it does not say of which chain it is")
    return bytes(row[0])
