"""Where things stand in the buffer of a run (`memory.Memory`), for compiled code."""

from __future__ import annotations

from tradebft.network.compiled.compiling import inlined, inner
from tradebft.network.compiled.memory import (
    ASKERS,
    AT_ARRIVALS,
    AT_BATCH,
    AT_FLIGHT,
    AT_REPLICA,
    AT_REQUEST,
    AT_SLOT,
    AT_TIMER,
    AT_VOTES,
    BATCH_FIELDS,
    CHECKPOINTS_COUNTED,
    FETCH_REPLY,
    FLIGHT,
    NODES,
    Q_REPLIED,
    Q_SEQUENCE,
    REPLICA,
    REPLY,
    REQUEST,
    REQUEST_FIELDS,
    SLOT,
    SLOT_MASK,
    STATUS,
    K,
    Numbers,
)


@inner
def of_replica(m: Numbers, field: int, r: int) -> int:
    """A field of replica *r*."""
    return m[AT_REPLICA] + r * REPLICA + field


@inner
def of_slot(m: Numbers, field: int, r: int, slot: int) -> int:
    """A field of a slot (the last bits of a sequence) at replica *r*."""
    return m[AT_SLOT] + (r * (m[SLOT_MASK] + 1) + slot) * SLOT + field


@inner
def of_timer(m: Numbers, field: int, r: int, timer: int) -> int:
    """A field of one of the timers of *r*."""
    return m[AT_TIMER] + (r * 3 + timer) * 2 + field


@inner
def of_flight(m: Numbers, field: int, flight: int) -> int:
    """A field of a flight."""
    return m[AT_FLIGHT] + flight * FLIGHT + field


@inner
def of_batch(m: Numbers, field: int, seq: int) -> int:
    """A field of the batch of *seq*."""
    return m[AT_BATCH] + seq * BATCH_FIELDS + field


@inner
def of_request(m: Numbers, field: int, number: int) -> int:
    """A field of a request."""
    return m[AT_REQUEST] + number * REQUEST_FIELDS + field


@inner
def seq_of(m: Numbers, kind: int, about: int) -> int:
    """The sequence that a message bears."""
    if kind == REPLY:
        return m[of_request(m, Q_REPLIED, about)]
    if kind == REQUEST:
        return m[of_request(m, Q_SEQUENCE, about)]
    return 0 if kind in (STATUS, FETCH_REPLY) else about


@inner
def of_link(m: Numbers, region: int, a: int, b: int) -> int:
    """Of what goes from replica *a* to *b* or a client: a place in cut, slow or loss, that begins at *region*."""
    n = m[NODES]
    return m[region] + a * (n + 1) + min(b, n)


@inner
def votes_for(m: Numbers, r: int, seq: int) -> int:
    """The votes for a checkpoint at *seq* that *r* counted."""
    return m[AT_VOTES] + 3 * (r * CHECKPOINTS_COUNTED + seq // m[K] % CHECKPOINTS_COUNTED)


@inner
def row_of(m: Numbers, flight_row: int) -> int:
    """The first key of a row of arrivals."""
    return m[AT_ARRIVALS] + flight_row * (m[NODES] - 1)


@inlined
def _word_of(words: int, voter: int) -> int:
    """Which of the two words at *words*, of 63 bits each, has *voter*."""
    return words if voter < 63 else words + 1


@inlined
def _bit_of(voter: int) -> int:
    """Its bit in that word."""
    return 1 << voter if voter < 63 else 1 << (voter - 63)


@inner
def among(m: Numbers, words: int, voter: int) -> bool:
    """Whether *voter* is one of those of the two words at *words*."""
    return m[_word_of(words, voter)] & _bit_of(voter) != 0


@inner
def newly(m: Numbers, words: int, voter: int) -> bool:
    """Whether *voter* was not among those of the two words at *words*; it is now. Of a crowd nobody keeps account."""
    if m[NODES] > ASKERS:
        return True
    if among(m, words, voter):
        return False
    m[_word_of(words, voter)] |= _bit_of(voter)
    return True


@inner
def length(value: int) -> int:
    """`memory.intlen`."""
    return 1 if value < 128 else 2 if value < 256 else 3 if value < 65536 else 5 if value < 4294967296 else 9
