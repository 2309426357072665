"""What making a decision durable costs on this machine: proposal, prepared certificate and block, with the code that a
real member runs.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

from tradebft.chain.crypto import QuorumCertificate
from tradebft.chain.store import Store
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.messages import Batch, Decided, Prepared, PrePrepare, Request, result_digest
from tradebft.network.live.kept import Kept
from tradebft.service.disturbance import disturb, pace

WRITES: Final = 100
ROW: Final = 24  # records that one write makes durable, beside one
QUORUM: Final = 3
_CHECKPOINT: Final = 128  # decisions after which records go


class Writes(NamedTuple):
    """*wall* time in ns of each durable write of one record; as multiples of `disturbance.Pace.other`, *processor* time
    of one on average, and *record*: what each record more in the same write takes."""

    wall: list[float]
    processor: float
    record: float


def writes(stores: int = 1, count: int = WRITES, requests: int = 1, request_bytes: int = 200) -> Writes:
    """*count* durable writes in the folder for temporary files, in turns on so many stores, of decisions on batches of
    so many requests."""
    with tempfile.TemporaryDirectory(prefix="tradebft-") as folder, contextlib.ExitStack() as stack:
        disks = []
        for k in range(stores):
            store = Store.open(Path(folder) / f"{k}.db", bytes(32))
            stack.callback(store.close)
            disks.append(Kept(store))
        work = [_work(disk, requests, request_bytes) for disk in disks]
        took, used = [], 0
        pace()
        for number in range(count):
            disturb()
            disk, keep = disks[number % stores], next(work[number % stores])
            before = time.process_time_ns()
            begun = time.perf_counter_ns()
            keep()
            disk.commit()
            took.append(float(time.perf_counter_ns() - begun))
            used += time.process_time_ns() - before
        rows = [_row(disks[k % stores], work[k % stores]) for k in range(max(4, count // ROW))]
        other = pace().other
        return Writes(took, used / count / other, mean(rows) / other)


def _row(disk: Kept, work: Iterator[partial[None]]) -> float:
    """Keep several records, the first of which does not count; ns for each."""
    disturb()
    next(work)()
    pieces = [next(work) for _ in range(ROW)]
    begun = time.perf_counter_ns()
    for keep in pieces:
        keep()
    took = time.perf_counter_ns() - begun
    disk.commit()
    return took / ROW


def _work(disk: Kept, requests: int, request_bytes: int) -> Iterator[partial[None]]:
    """What a member keeps, decision after decision, piece by piece."""
    votes = tuple((member, bytes(64)) for member in range(QUORUM))
    none = (b"",) * requests
    seq = 0
    while True:
        seq += 1
        batch = Batch(
            seq, tuple(Request("client.0", k, bytes(request_bytes), bytes(64)) for k in range(requests))
        )
        digest = batch.digest
        bare = PrePrepare(0, seq, digest, 0, None, bytes(64))
        decided = Decided(seq, batch, QuorumCertificate("Commit", 0, seq, digest, votes))
        executed = Executed(seq, none, tuple(map(result_digest, none)), bytes(32))
        certificate = QuorumCertificate("Prepare", 0, seq, digest, votes)
        yield partial(disk.write, PrePrepare(0, seq, digest, 0, batch, bytes(64)))
        yield partial(disk.write, Prepared(bare, certificate))
        yield partial(disk.append, Committed(seq, decided, batch.requests), executed)
        if seq % _CHECKPOINT == 0:
            yield partial(disk.write, QuorumCertificate("Checkpoint", 0, seq, digest, votes))
