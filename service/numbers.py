"""The numbers of a client's requests, each of which serves once, in a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tradebft.service.errors import ServiceError


class Numbers:
    """The numbers of requests, in a file that is locked while this lives."""

    def __init__(self, descriptor: int, last: int) -> None:
        self._descriptor, self._last = descriptor, last

    def next(self) -> int:
        """A number that was never used, on the disk before it is used."""
        self._last += 1
        data = msgspec.json.encode({"request": self._last})
        os.pwrite(self._descriptor, data.ljust(64) + b"\n", 0)
        os.fsync(self._descriptor)
        return self._last


@contextlib.contextmanager
def numbers_at(path: Path) -> Iterator[Numbers]:
    """Those of the client whose file is *path*. ServiceError where another process uses it, or it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ServiceError(f"{path}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServiceError(f"{path}: another client of this member is at work") from None
        text = os.pread(descriptor, 4096, 0)
        try:
            last = msgspec.json.decode(text, type=dict[str, int])["request"] if text.strip() else 0
        except (msgspec.DecodeError, KeyError):
            raise ServiceError(f'{path}: expected {{"request": NUMBER}}') from None
        yield Numbers(descriptor, last)
    finally:
        os.close(descriptor)
