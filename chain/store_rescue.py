"""A damaged store made whole again, without what peers can send once more.

Blocks and snapshots prove themselves and every peer has them. A member's own records (what it voted for) are nowhere
else: a member that has forgotten one of them may vote against itself, so a store that has lost any is not rescued. Its
member must count as one of the f that may fail until it has been set up anew.
"""

from __future__ import annotations

from pathlib import Path

from tradebft.chain.store import Damage, Store, StoreDamaged, StoreError
from tradebft.chain.store_file import log_of


def rescue(path: Path | str, identity: bytes) -> list[Damage]:
    """Check the store at *path*; where it is damaged, put a copy in its place of all that is as it was written.

    Returns what is lost (empty: nothing was damaged, and nothing was touched). The damaged file stays beside it, under
    its name and ``.damaged``.

    Raises:
        StoreError: it cannot be opened, records or the founding are lost, or the copy cannot be written.
    """
    path = Path(path)
    copy = path.with_name(path.name + ".rescued")
    store = Store.open(path, identity)
    try:
        damages = store.check()
        if not damages:
            return []
        gone = [damage for damage in damages if damage.table in ("record", "meta")]
        if gone:
            raise StoreDamaged(f"{path}: damaged: what only this member knew is lost ({gone[0].why})")
        _forget(copy)
        into = Store.open(copy, identity)
        try:
            lost = _copy(store, into, {damage.table for damage in damages})
            into.commit()
        finally:
            into.close()
    finally:
        store.close()
    damaged = path.with_name(path.name + ".damaged")
    try:
        _forget(damaged)
        path.rename(damaged)
        copy.rename(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be replaced: {error.strerror or error}") from None
    return lost or damages


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        log_of(path).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed: {error.strerror or error}") from None


def _copy(store: Store, into: Store, damaged: set[str]) -> list[Damage]:
    """All that is as it was written; returns what is not. Without its snapshots a chain has no beginning that it could
    be built on: then its blocks stay behind too, and peers send all of it."""
    for name in store.metas():
        data = store.meta(name)
        assert data is not None  # it was listed
        into.put_meta(name, data)
    for record in store.records():
        into.put_record(*record)
    for table in ("meta", "record"):
        if into.count(table) != store.count(table):
            raise StoreDamaged(f"{store.path}: damaged: what only this member knew is lost (rows of {table})")
    if damaged & {"snapshot", "chunk"} or not _copy_snapshots(store, into):
        for row in into.snapshots():
            into.drop_snapshot(row.seq)
        for part, seq in into.chunked():
            into.drop_chunks(part, seq)
        return [Damage("snapshot", None, "lost, and the blocks with it")]
    lost: list[Damage] = []
    for seq in store.numbers("block"):
        try:
            block = store.block(seq)
        except StoreError as error:
            lost.append(Damage("block", seq, str(error)))
            continue
        if block is not None:
            into.put_block(*block)
    return lost


def _copy_snapshots(store: Store, into: Store) -> bool:
    """Whether all of them could be copied."""
    try:
        for row in store.snapshots():
            into.put_snapshot(*row)
        for part, seq in store.chunked():
            into.put_chunks(part, seq, store.chunks(part, seq))
    except StoreDamaged:
        return False
    return all(into.count(table) == store.count(table) for table in ("snapshot", "chunk"))
