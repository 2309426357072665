"""What the primary remembers of each client: `consensus.pbft.client_table`."""

from __future__ import annotations

from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    AT_CLIENT,
    AT_DONE,
    AT_TOP,
    CLIENT_RING,
    CLIENT_WINDOW,
    Q_CLIENT,
    Q_PLACE,
    Q_SEQUENCE,
    Numbers,
)
from tradebft.network.compiled.places import of_request


@inner
def mark(m: Numbers, rid: int) -> None:
    """`ClientTable.mark` at the primary."""
    client, size = m[of_request(m, Q_CLIENT, rid)], m[CLIENT_RING]
    done, low = m[AT_DONE] + client * size, m[AT_CLIENT] + client
    m[done + m[of_request(m, Q_SEQUENCE, rid)] % size] = 1
    while m[done + (m[low] + 1) % size]:
        m[low] += 1
        m[done + m[low] % size] = 0


@inner
def kept(m: Numbers, rid: int) -> bool:
    """Whether the primary has the answer still (`ClientTable.answer`)."""
    top = m[m[AT_TOP] + m[of_request(m, Q_CLIENT, rid)]]
    return m[of_request(m, Q_SEQUENCE, rid)] > top - m[CLIENT_WINDOW]


@inner
def answered(m: Numbers, place: int) -> None:
    """The primary's answer to the request at *place* in the order is the latest, perhaps, that its client has."""
    rid = m[of_request(m, Q_PLACE, place)]
    top = m[AT_TOP] + m[of_request(m, Q_CLIENT, rid)]
    m[top] = max(m[top], m[of_request(m, Q_SEQUENCE, rid)])
