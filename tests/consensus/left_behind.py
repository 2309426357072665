"""What the tests of snapshots share: replica 3 fell behind, and the others no longer keep the blocks that it lacks.

A snapshot is taken every 4 sequences; it has one chunk for the client table and PIECES for the application.
"""

from __future__ import annotations

from replicas import PIECES, Network, of
from tradebft.consensus.interface import Install
from tradebft.consensus.messages import FetchChunk, SnapshotHead

CHUNKS = PIECES + 1
OTHERS = (0, 1, 2)


def network(**config) -> Network:
    return Network(batch_size=1, checkpoint_interval=2, log_window=8, snapshot_interval=4, **config)


def behind(last: int = 22) -> Network:
    """Replica 3 heard nothing of 1..last; the others keep the snapshots at the last two multiples of 4."""
    net = network()
    net.serve(range(1, last + 1), without={3})
    return net


def head(net: Network, i: int) -> SnapshotHead:
    shown = net.replicas[i].snapshot_head()
    assert shown is not None
    return shown


def asked(net: Network) -> list[tuple[int, int]]:
    """(source, chunk) of everything that replica 3 asked for and nobody received yet."""
    return [(to, m.index) for to, m in net.bag if isinstance(m, FetchChunk) and m.replica == 3]


def level(net: Network, *replicas: int) -> None:
    """These replicas are in the same state, whichever way they came there."""
    one = net.replicas[replicas[0]]
    for i in replicas[1:]:
        other = net.replicas[i]
        assert (other.executed, other.low, other.high) == (one.executed, one.low, one.high)
        assert net.roots[i] == net.roots[replicas[0]]
        assert other.clients.executed_rows() == one.clients.executed_rows()
        assert other.clients.reply_rows() == one.clients.reply_rows()
        assert (other.view, other.changing, other.standing) == (one.view, one.changing, one.standing)


def start_fetching(net: Network, chunks: int) -> None:
    """Replica 3 has so many chunks of the snapshot that replica 1 shows; what it asked for beyond them is lost."""
    seq = head(net, 1).manifest.seq
    net.step(3, head(net, 1))
    for index in range(chunks):
        net.step(3, net.signed(net.chunk(1, seq, index)))
    net.bag.clear()


def all_chunks(net: Network) -> Install:
    """Replica 3 has everything, and asks its application to take it over: no answer yet."""
    start_fetching(net, CHUNKS - 1)
    (install,) = of(Install, net.replicas[3].step(net.now, net.signed(net.chunk(1, 20, CHUNKS - 1))))
    return install


def caught_up(last: int = 22) -> Network:
    """Replica 3 has installed the newest snapshot and fetched the blocks after it."""
    net = behind(last)
    net.step(3, net.request(last + 1))
    net.catch_up(3)
    assert net.installed[3] == [last // 4 * 4]
    level(net, 0, 1, 2, 3)
    return net
