"""A table's rows in pages, so that a snapshot encodes what changed since the last one and nothing else.

A row's place is the order in which rows came, which is the same for everybody who executed the same blocks; a page is
`ROWS` places. Rows come at the end and most changes are to recent ones, so that few pages change between two snapshots,
however large the table is. What is handed out is the same object until one of its rows changes: whoever hashes pages
can know them by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from tradebft.chain import codec

ROWS: Final = 256

K = TypeVar("K")
V = TypeVar("V")


class Pages(Generic[K, V]):
    """The pages of one table. Keys are never taken back."""

    __slots__ = ("_dirty", "_full", "_keys", "_page", "_place", "_rows")

    def __init__(self, name: str, rows: Mapping[K, V], key_type: Any, value_type: Any) -> None:
        self._rows = rows
        self._keys: list[K] = []
        self._place: dict[K, int] = {}
        self._full: list[bytes] = []
        self._dirty: set[int] = set()
        self._page: Any = msgspec.defstruct(
            f"{name}_page",
            [("rows", tuple[tuple[key_type, value_type], ...])],
            frozen=True, array_like=True, forbid_unknown_fields=True,
        )  # fmt: skip

    def touch(self, key: K) -> None:
        """The row of *key* is new, or has another value."""
        place = self._place.get(key)
        if place is None:
            place = self._place[key] = len(self._keys)
            self._keys.append(key)
        self._dirty.add(place // ROWS)

    def full(self) -> list[bytes]:
        """The pages that have all their rows, encoded."""
        count = len(self._keys) // ROWS
        for number in sorted(self._dirty):
            if number < count:
                page = self._encoded(number * ROWS, (number + 1) * ROWS)
                self._full[number : number + 1] = [page]
        self._dirty.clear()
        return self._full

    def rest(self) -> bytes:
        """The rows beyond the last full page, encoded as a page."""
        begin = len(self._keys) // ROWS * ROWS
        return self._encoded(begin, len(self._keys))

    def read(self, page: bytes) -> Iterable[tuple[K, V]]:
        """The rows of an encoded page. CodecError if it is none of this table."""
        rows: Iterable[tuple[K, V]] = codec.decode(page, self._page, limit=len(page)).rows
        return rows

    def _encoded(self, begin: int, end: int) -> bytes:
        rows = self._rows
        return codec.encode(self._page(tuple([(key, rows[key]) for key in self._keys[begin:end]])))
