"""One member's durable memory: one SQLite file of opaque bytes, in which damage shows.

The only file of this room that touches the world. What the bytes mean is the caller's business; this module promises:

* **durable**: what was put before a `commit` that returned survives a crash and a power cut (write-ahead log,
  ``synchronous=FULL``); what was put after it is gone as a whole. One commit for many puts is one write (group commit).
* **never silently wrong**: every row carries a checksum over its table, its key and its bytes, and a tally counts the
  rows of each table and sums up their checksums. Reading a damaged row is a `StoreError`; `check` looks at everything,
  also for rows that have vanished.
* **after an error nothing goes on**: when a write fails (a full disk), all since the last commit is gone, and the store
  refuses whatever comes next. What was committed is there when it is opened again.

Flipped bits in the last transaction of a log that a crash left behind cannot be told from a power cut; `torn` says
that one or the other was found. A log that somebody cut off between two transactions looks whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from tradebft.chain import codec, wal
from tradebft.chain.store_file import (
    APPLICATION,
    FORMAT,
    SCHEMA,
    SUM_BYTES,
    TABLES,
    StoreDamaged,
    StoreError,
    UnfinishedLog,
    connect,
    in_one_line,
    log_of,
    row_sum,
)

__all__ = ["Damage", "Record", "Row", "SnapshotRow", "Store", "StoreDamaged", "StoreError", "UnfinishedLog"]

_MODULUS: Final = 1 << 8 * SUM_BYTES
_FOUND_MAX: Final = 100  # damages that `check` lists a table


class Damage(NamedTuple):
    """What `Store.check` found: in which table ("file": SQLite's own order), and at which seq, if that is known."""

    table: str
    seq: int | None
    why: str


class Row(NamedTuple):
    """A block: its bytes and the root that it led to."""

    seq: int
    data: bytes
    root: bytes


class Record(NamedTuple):
    """A record and what it was put under."""

    kind: str
    seq: int
    data: bytes


class SnapshotRow(NamedTuple):
    """A snapshot's manifest, and its proof if there is one yet. Its chunks are read by number."""

    seq: int
    manifest: bytes
    proof: bytes | None


class Store:
    """One open store. Not to be shared between threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection, identity: bytes, torn: bool) -> None:
        self.path, self.identity = path, identity
        self.torn = torn
        """The log that a crash left behind ended in a transaction that does not hold; it is not in the store."""
        self._connection = connection
        self._broken = ""
        self._writing = False
        self._tally: dict[str, tuple[int, int]] = {}
        self.height = 0
        """The highest block; 0 where there is none."""

    # ---- opening and closing -------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path | str, identity: bytes | None = None, *, read_only: bool = False) -> Store:
        """The store at *path* of the chain that *identity* names; a new one where there is no file.

        *identity* None: whatever chain it is of. *read_only*: the file is not touched and must be there.

        Raises:
            StoreError: another chain's, of a newer format, no store, damaged so that it shows at once, open in another
                process, or not to be read or written.
        """
        path = Path(path)
        if not path.exists():
            if read_only or identity is None:
                raise StoreError(f"{path}: no such file")
            _create(path, identity)
        try:
            state = wal.state_of(log_of(path).read_bytes()) if log_of(path).exists() else "whole"
        except OSError as error:
            raise StoreError(f"{path}: its log cannot be read: {error.strerror or error}") from None
        if state == "damaged":
            raise StoreDamaged(f"{path}: damaged: its log does not hold, and more was committed after that")
        if path.is_file() and path.stat().st_size == 0:
            raise StoreDamaged(f"{path}: damaged: the file is empty")
        with in_one_line(path):
            connection, found = connect(path, read_only)
        try:
            with in_one_line(path):
                store = cls(path, connection, found, state == "torn")
                store._load()
        except BaseException:
            connection.close()
            raise
        if identity is not None and store.identity != identity:
            store.close()
            raise StoreError(
                f"{path}: the store of another chain ({store.identity.hex()[:16]}, not {identity.hex()[:16]})"
            )
        return store

    def close(self) -> None:
        """Drop what was not committed, and close the file."""
        try:
            if self._writing:
                self._connection.rollback()
        except sqlite3.Error:
            pass
        finally:
            self._writing = False
            self._broken = self._broken or "closed"
            self._connection.close()

    def commit(self) -> None:
        """Return when everything that was put is durable."""
        self._usable()
        if not self._writing:
            return
        with self._guarded():
            data = codec.encode(sorted((name, n, _bytes(total)) for name, (n, total) in self._tally.items()))
            self._run("REPLACE INTO tally VALUES (0, ?, ?)", (data, self._sum("tally", (0, data))))
            self._connection.execute("COMMIT")
            self._writing = False

    # ---- what a chain starts from --------------------------------------------------------------------------

    def put_meta(self, name: str, data: bytes) -> None:
        """Keep *data* under *name*, in place of what was there."""
        self._put("meta", (name, data))

    def meta(self, name: str) -> bytes | None:
        """What is kept under *name*."""
        row = self._get("meta", "name = ?", (name,))
        return None if row is None else bytes(row[1])

    def metas(self) -> list[str]:
        """The names under which something is kept."""
        return [row[0] for row in self._all("meta", "1", ())]

    # ---- blocks --------------------------------------------------------------------------------------------

    def put_block(self, seq: int, data: bytes, root: bytes) -> None:
        """Keep a block, in place of any at *seq*."""
        self._put("block", (seq, data, root), new=seq > self.height)
        self.height = max(self.height, seq)

    def block(self, seq: int) -> Row | None:
        """The block at *seq*; None where it is not kept."""
        row = self._get("block", "seq = ?", (seq,))
        return None if row is None else Row(*row)

    def blocks(self, first: int = 0) -> Iterator[Row]:
        """All blocks from *first* on, lowest first."""
        for row in self._all("block", "seq >= ? ORDER BY seq", (first,)):
            yield Row(*row)

    def drop_blocks(self, through: int) -> None:
        """Forget the blocks at or below *through*."""
        self._drop("block", "seq <= ?", (through,))
        if through >= self.height:
            self.height = self._highest()

    def truncate_from(self, seq: int) -> None:
        """Forget the blocks from *seq* on, damaged ones too, so that peers can send them again."""
        self._usable()
        with self._guarded():
            self._begin()
            self._run("DELETE FROM block WHERE seq >= ?", (seq,))
            sums = [_number(bytes(found)) for (found,) in self._run("SELECT sum FROM block", ())]
            self._tally["block"] = len(sums), sum(sums) % _MODULUS
        self.height = self._highest()

    # ---- records -------------------------------------------------------------------------------------------

    def put_record(self, kind: str, seq: int, data: bytes, first: bool = False) -> None:
        """Keep a record after all others; *first*: before all others."""
        self._usable()
        lowest, highest = self._places()
        place = lowest - 1 if first else highest + 1
        self._put("record", (place, kind, seq, data), new=True)

    def records(self) -> Iterator[Record]:
        """All records in their order."""
        for _, kind, seq, data in self._all("record", "1 ORDER BY place", ()):
            yield Record(kind, seq, data)

    def drop_records(self, kind: str | None = None, through: int | None = None) -> None:
        """Forget the records of *kind* (None: of any) at or below seq *through* (None: at any)."""
        where, values = ["1"], []
        if kind is not None:
            where.append("kind = ?")
            values.append(kind)
        if through is not None:
            where.append("seq <= ?")
            values.append(through)  # type: ignore[arg-type]
        self._drop("record", " AND ".join(where), tuple(values))

    # ---- snapshots -----------------------------------------------------------------------------------------

    def put_snapshot(self, seq: int, manifest: bytes, proof: bytes | None = None) -> None:
        """Keep a snapshot's manifest and, once there is one, its proof."""
        self._put("snapshot", (seq, manifest, proof))

    def snapshots(self) -> list[SnapshotRow]:
        """All snapshots, oldest first."""
        return [SnapshotRow(*row) for row in self._all("snapshot", "1 ORDER BY seq", ())]

    def snapshot(self, seq: int) -> SnapshotRow | None:
        """The snapshot at *seq*."""
        row = self._get("snapshot", "seq = ?", (seq,))
        return None if row is None else SnapshotRow(*row)

    def drop_snapshot(self, seq: int) -> None:
        """Forget the manifest and proof at *seq*; chunks have a `drop_chunks` of their own."""
        self._drop("snapshot", "seq = ?", (seq,))

    def put_chunks(self, part: str, seq: int, chunks: Sequence[bytes]) -> None:
        """Keep *chunks* as *part* of what there is at *seq*, in place of any that were there."""
        self.drop_chunks(part, seq)
        for number, data in enumerate(chunks):
            self._put("chunk", (part, seq, number, data), new=True)

    def chunk(self, part: str, seq: int, number: int) -> bytes | None:
        """One chunk."""
        row = self._get("chunk", "part = ? AND seq = ? AND number = ?", (part, seq, number))
        return None if row is None else bytes(row[3])

    def chunks(self, part: str, seq: int) -> tuple[bytes, ...]:
        """All chunks of *part* at *seq*; empty where there are none."""
        return tuple(
            row[3] for row in self._all("chunk", "part = ? AND seq = ? ORDER BY number", (part, seq))
        )

    def chunked(self) -> list[tuple[str, int]]:
        """Which parts there are, and at which seq."""
        self._usable()
        with self._guarded():
            return [*self._run("SELECT DISTINCT part, seq FROM chunk ORDER BY seq, part", ())]

    def drop_chunks(self, part: str, seq: int) -> None:
        """Forget the chunks of *part* at *seq*."""
        self._drop("chunk", "part = ? AND seq = ?", (part, seq))

    # ---- damage --------------------------------------------------------------------------------------------

    def check(self) -> list[Damage]:
        """Everything in the file that is not as it was written. Reads all of it; empty where all is well."""
        self._usable()
        found: list[Damage] = []
        try:
            for (line,) in self._connection.execute("PRAGMA integrity_check(10)"):
                if line != "ok":
                    found.append(Damage("file", None, " ".join(str(line).split())))
        except sqlite3.Error as error:
            found.append(Damage("file", None, str(error)))
        for table in TABLES:
            found += self._check_table(table)
        return found

    def count(self, table: str) -> int:
        """How many rows were written to *table* and not dropped, whatever became of them."""
        return self._tally.get(table, (0, 0))[0]

    def numbers(self, table: str) -> list[int]:
        """The seqs of a table's rows, also of damaged ones."""
        self._usable()
        with self._guarded():
            return [int(seq) for (seq,) in self._run(f"SELECT DISTINCT seq FROM {table} ORDER BY seq", ())]

    def _check_table(self, table: str) -> list[Damage]:
        found: list[Damage] = []
        count = total = 0
        names = _columns(table)
        try:
            for *row, stored in self._connection.execute(f"SELECT {', '.join(names)}, sum FROM {table}"):
                if stored != self._sum(table, tuple(row)):
                    seq = row[names.index("seq")] if "seq" in names else None
                    if len(found) < _FOUND_MAX:
                        found.append(
                            Damage(table, seq if type(seq) is int else None, "its checksum does not hold")
                        )
                    continue
                count, total = count + 1, (total + _number(stored)) % _MODULUS
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return [*found, Damage(table, None, str(error))]
        if not found and (count, total) != self._tally.get(table, (0, 0)):
            expected = self._tally.get(table, (0, 0))[0]
            found.append(Damage(table, None, f"{count} rows, {expected} were written, or others than these"))
        return found

    # ---- rows ----------------------------------------------------------------------------------------------

    def _put(self, table: str, row: tuple[Any, ...], new: bool = False) -> None:
        """Write a row; *new*: the caller knows that there is none with its key."""
        self._usable()
        names, keys = _columns(table), TABLES[table][0]
        with self._guarded():
            self._begin()
            if not new:
                self._forget(table, " AND ".join(f"{key} = ?" for key in keys), row[: len(keys)])
            sum_ = self._sum(table, row)
            marks = ", ".join("?" * (len(row) + 1))
            self._run(f"INSERT INTO {table} ({', '.join(names)}, sum) VALUES ({marks})", (*row, sum_))
            count, total = self._tally.get(table, (0, 0))
            self._tally[table] = count + 1, (total + _number(sum_)) % _MODULUS

    def _drop(self, table: str, where: str, values: tuple[Any, ...]) -> None:
        self._usable()
        with self._guarded():
            self._begin()
            self._forget(table, where, values)

    def _forget(self, table: str, where: str, values: tuple[Any, ...]) -> None:
        sums = [bytes(found) for (found,) in self._run(f"SELECT sum FROM {table} WHERE {where}", values)]
        if not sums:
            return
        self._run(f"DELETE FROM {table} WHERE {where}", values)
        count, total = self._tally.get(table, (0, 0))
        self._tally[table] = count - len(sums), (total - sum(map(_number, sums))) % _MODULUS

    def _get(self, table: str, where: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return next(iter(self._all(table, where, values)), None)

    def _all(self, table: str, where: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """Rows whose checksums hold; StoreError at the first that does not."""
        self._usable()
        with self._guarded(reading=True):
            names = ", ".join(_columns(table))
            for *row, stored in self._run(f"SELECT {names}, sum FROM {table} WHERE {where}", values):
                if stored != self._sum(table, tuple(row)):
                    raise StoreDamaged(
                        f"{self.path}: damaged: a row of {table} ({row[0]}) is not as it was written"
                    )
                yield tuple(row)

    def _sum(self, table: str, row: tuple[Any, ...]) -> bytes:
        return row_sum(self.identity, table, row)

    def _load(self) -> None:
        rows = [*self._run("SELECT id, data, sum FROM tally", ())]
        if len(rows) != 1 or rows[0][2] != self._sum("tally", rows[0][:2]):
            raise StoreDamaged(f"{self.path}: damaged: its tally is not as it was written")
        written = codec.decode(rows[0][1], list[tuple[str, int, bytes]])
        self._tally = {name: (count, _number(total)) for name, count, total in written}
        self.height = self._highest()

    def _highest(self) -> int:
        (found,) = next(iter(self._run("SELECT max(seq) FROM block", ())))
        return 0 if found is None else int(found)

    def _places(self) -> tuple[int, int]:
        with self._guarded():
            lowest, highest = next(iter(self._run("SELECT min(place), max(place) FROM record", ())))
        return (0, 0) if lowest is None else (int(lowest), int(highest))

    # ---- SQLite --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._writing:
            self._connection.execute("BEGIN IMMEDIATE")
            self._writing = True

    def _run(self, statement: str, values: Iterable[Any]) -> sqlite3.Cursor:
        return self._connection.execute(statement, tuple(values))

    def _usable(self) -> None:
        if self._broken:
            raise StoreError(f"{self.path}: {self._broken}")

    @contextmanager
    def _guarded(self, reading: bool = False) -> Iterator[None]:
        """Whatever SQLite objects to becomes one line; a failed write ends everything (see the module)."""
        try:
            with in_one_line(self.path):
                yield
        except StoreError as error:
            if not reading:
                self._give_up(str(error))
            raise

    def _give_up(self, why: str) -> None:
        self._broken = why.removeprefix(f"{self.path}: ") + "; nothing was written since"
        with suppress(sqlite3.Error):
            self._connection.rollback()
        self._writing = False


def _columns(table: str) -> tuple[str, ...]:
    keys, data = TABLES[table]
    return (*keys, *data)


def _number(sum_: bytes) -> int:
    return int.from_bytes(sum_, "big")


def _bytes(total: int) -> bytes:
    return total.to_bytes(SUM_BYTES, "big")


def _create(path: Path, identity: bytes) -> None:
    """A new store, which gets its name when it is complete."""
    new = path.with_name(path.name + ".new")
    with in_one_line(path):
        new.unlink(missing_ok=True)
        log_of(new).unlink(missing_ok=True)
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("PRAGMA journal_mode = WAL")
            for statement in SCHEMA.values():
                connection.execute(statement)
            store = Store(path, connection, identity, False)
            store.put_meta("identity", identity)
            store.commit()
        finally:
            connection.close()
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
