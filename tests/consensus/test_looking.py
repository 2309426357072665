"""What a replica would look into as it stands is what it looks into: the signatures that its keyring is asked about."""

from __future__ import annotations

from typing import Any

import pytest
from replicas import Network
from tradebft.consensus.messages import FetchReply, Prepare, PrePrepare
from tradebft.consensus.pbft import Replica


class Counting:
    """A keyring that counts what it is asked."""

    def __init__(self, keyring: Any) -> None:
        self._keyring, self.asked = keyring, 0

    def verify(self, *what: Any) -> bool:
        self.asked += 1
        return bool(self._keyring.verify(*what))

    def verify_key(self, *what: Any) -> bool:
        self.asked += 1
        return bool(self._keyring.verify_key(*what))

    def public_key(self, member: Any) -> bytes:
        return bytes(self._keyring.public_key(member))


class Counted(Network):
    """A network whose replicas count, and are compared with what they had said."""

    def __init__(self, **settings: Any) -> None:
        self.ring: Counting | None = None
        super().__init__(**settings)

    def _fresh(self, i: int) -> Replica:
        self.ring = Counting(self.keyring)
        return Replica(i, self.config, self.signers[i], self.ring)

    def looks(self, i: int, message: Any) -> tuple[int | None, int]:
        """What replica *i* says that it would check inside *message*, and what it then does check."""
        assert self.ring is not None
        said, before = self.replicas[i].checks_inside(message), self.ring.asked
        self.step(i, message)
        return said, self.ring.asked - before


@pytest.fixture
def net() -> Counted:
    return Counted(running=[3], checkpoint_interval=4, log_window=8, snapshot_interval=4)


def test_a_proposal_is_looked_into_once(net: Counted) -> None:
    proposal = net.pre_prepare(net.batch(1, 2, 3))
    assert net.looks(3, proposal) == (3, 3)
    assert net.looks(3, proposal) == (0, 0)
    other = net.pre_prepare(net.batch(4))
    assert net.looks(3, other) == (0, 0)  # another for the same place is evidence, whatever is in it
    assert [found.culprit for _, found in net.evidence] == [0]


def test_a_proposal_that_votes_came_before_is_looked_into(net: Counted) -> None:
    batch = net.batch(1, 2)
    net.step(3, net.prepare(1, batch.digest))
    assert net.looks(3, net.pre_prepare(batch)) == (2, 2)


def test_a_proposal_of_what_was_executed_or_of_a_view_that_is_over_is_not_looked_into(net: Counted) -> None:
    batch = net.batch(1, 2)
    net.step(3, net.signed(FetchReply((net.decided(1, batch),), (), None, 1)))
    assert net.looks(3, net.pre_prepare(batch)) == (0, 0)
    net.step(3, net.view_change(0))
    net.step(3, net.view_change(1))  # f+1 want another view
    assert net.replicas[3].changing
    assert net.looks(3, net.pre_prepare(net.batch(3), seq=2)) == (0, 0)


def test_a_proposal_that_may_come_to_fit_is_charged_for_at_once(net: Counted) -> None:
    """Of a view that is not open yet it is kept, and looked into when that opens; so may one above the window."""
    assert net.looks(3, net.pre_prepare(net.batch(1, 2), view=1)) == (2, 0)
    assert net.looks(3, net.pre_prepare(net.batch(1, 2), seq=9)) == (2, 0)


def test_of_blocks_only_those_that_come_next_are_looked_into_and_of_them_the_certificates(
    net: Counted,
) -> None:
    blocks = [net.decided(seq, net.batch(seq, 100 + seq)) for seq in range(1, 7)]
    quorum = len(blocks[0].certificate.votes)
    without_the_first = net.signed(FetchReply(tuple(blocks[1:]), (), None, 1))
    assert net.looks(3, without_the_first) == (0, 0)
    assert net.looks(3, net.signed(FetchReply(tuple(blocks[:4]), (), None, 1))) == (4 * quorum, 4 * quorum)
    assert net.looks(3, net.signed(FetchReply(tuple(blocks[:4]), (), None, 2))) == (0, 0)
    assert net.looks(3, net.signed(FetchReply(tuple(blocks), (), None, 2))) == (2 * quorum, 2 * quorum)


def test_a_checkpoint_is_looked_into_where_it_is_news(net: Counted) -> None:
    block = net.decided(1, net.batch(1))
    quorum = len(block.certificate.votes)
    reply = net.signed(FetchReply((block,), (), net.stable(4), 1))
    assert net.looks(3, reply) == (2 * quorum, 2 * quorum)
    assert net.looks(3, reply) == (0, 0)


def test_of_other_messages_it_says_nothing(net: Counted) -> None:
    assert net.looks(3, net.prepare(1, bytes(32))) == (None, 0)
    assert net.replicas[3].checks_inside(PrePrepare(0, 1, bytes(32), 0)) == 0
    assert isinstance(net.prepare(1, bytes(32)), Prepare)
