"""What the tests of classic mistakes share: one replica that runs, and everybody else played by the test."""

from __future__ import annotations

from replicas import Network
from tradebft.consensus.messages import FetchReply

VIEW, STATUS = "view-change", "status"
WAYS = [4, 5, 6, 7, 10]


def backup(n=4, me=2, **config):
    """One replica that runs, and everybody else played by the test."""
    return Network(n, running=[me], **config)


def prepare_and_commit(net, me, batch, seq=1, view=0):
    """Play the others so that *me* decides *batch*."""
    effects = list(net.step(me, net.pre_prepare(batch, seq, view)))
    for vote in (net.prepare, net.commit):
        for other in range(net.config.nodes):
            if other != me:
                effects += net.step(me, vote(other, batch.digest, seq, view))
    return effects


def fetched(net, blocks, replica=1, checkpoint=None):
    return net.signed(FetchReply(tuple(blocks), (), checkpoint, replica))
