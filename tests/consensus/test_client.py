"""The client: believes f+1 matching replies, repeats with growing patience, keeps to its window."""

from __future__ import annotations

import pytest
from msgspec import structs
from replicas import Network, of, sent
from tradebft.consensus.client import BACKOFF_MAX, Client
from tradebft.consensus.interface import (
    Answered,
    Broadcast,
    Evidence,
    Ignored,
    Send,
    SetTimer,
    Submit,
    TimerFired,
)
from tradebft.consensus.messages import Reply, Request, authentic, result_digest

S = 10**9


class Bank:
    """A client, the network that signs for its replicas, and a clock."""

    def __init__(self, n=4, **config):
        self.net = Network(n, **config)
        self.client = Client("bank", self.net.config, self.net.signers["bank"], self.net.keyring, S)
        self.now = 0

    def submit(self, tag=1, operation=b"pay"):
        return self.client.step(self.now, Submit(operation, tag))

    def reply(self, replica, result=b"paid", sequence=1, view=0, seq=1, client="bank"):
        bare = Reply(view, client, sequence, replica, seq, result_digest(result), result)
        return self.client.step(self.now, self.net.signed(bare))

    def answer(self, sequence):
        return [e for i in range(self.net.config.faults + 1) for e in self.reply(i, sequence=sequence)]

    def wake(self, now):
        self.now = now
        return self.client.step(now, TimerFired("retry"))


def test_a_request_goes_to_the_primary_only_and_is_signed():
    bank = Bank()
    (send,) = of(Send, bank.submit())
    assert send.to == 0
    assert authentic(send.message, bank.net.config.chain_id, bank.net.keyring)
    assert send.message.key == ("bank", 1)


@pytest.mark.parametrize("n", [1, 4, 5, 7, 10])
def test_exactly_f_plus_1_matching_replies_are_needed(n):
    bank = Bank(n)
    bank.submit(tag=42)
    for replica in range(bank.net.config.faults):
        assert of(Answered, bank.reply(replica)) == []
        assert bank.client.unanswered == 1
    (answered,) = of(Answered, bank.reply(bank.net.config.faults))
    assert (answered.tag, answered.sequence, answered.result, answered.seq) == (42, 1, b"paid", 1)
    assert bank.client.unanswered == 0
    assert bank.client.waiting_since() is None


def test_f_liars_are_ignored_whatever_they_agree_on():
    bank = Bank(7)
    bank.submit()
    for liar in (5, 6):
        assert of(Answered, bank.reply(liar, b"never heard of you")) == []
    for honest in (0, 1):
        assert of(Answered, bank.reply(honest)) == []
    (answered,) = of(Answered, bank.reply(2))
    assert answered.result == b"paid"


def test_f_liars_cannot_say_where_a_request_was_executed():
    """A liar may know the right result; the place in the order is what f+1 say as well."""
    bank = Bank()
    bank.submit()
    assert of(Answered, bank.reply(0, seq=1)) == []
    assert of(Answered, bank.reply(3, seq=999)) == []
    (answered,) = of(Answered, bank.reply(1, seq=1))
    assert answered.seq == 1


def test_one_liar_who_repeats_itself_counts_once():
    bank = Bank()
    bank.submit()
    assert of(Answered, bank.reply(3, b"lie")) == []
    assert of(Ignored, bank.reply(3, b"lie"))
    assert bank.client.unanswered == 1


def test_two_different_replies_by_one_replica_are_evidence_and_the_first_counts():
    bank = Bank()
    bank.submit()
    bank.reply(3, b"lie")
    (evidence,) = of(Evidence, bank.reply(3, b"paid"))
    assert evidence.culprit == 3
    assert of(Answered, bank.reply(0)) == []
    assert of(Answered, bank.reply(1))


def test_a_result_that_is_not_what_its_digest_says_is_not_handed_out():
    """A liar may repeat the right digest beside a wrong result: the result of an honest one is taken."""
    bank = Bank()
    bank.submit()
    true = Reply(0, "bank", 1, 3, 1, result_digest(b"paid"), b"paid")
    bank.client.step(0, bank.net.signed(structs.replace(true, result=b"robbed")))
    (answered,) = of(Answered, bank.reply(0))
    assert answered.result == b"paid"


def test_replies_to_others_and_to_what_nobody_asked_change_nothing():
    bank = Bank()
    bank.submit()
    for replica in range(4):
        assert of(Answered, bank.reply(replica, client="shop")) == []
        assert of(Answered, bank.reply(replica, sequence=2)) == []
    assert bank.client.unanswered == 1
    assert of(Ignored, bank.client.step(0, bank.net.prepare(1, bytes(32))))


def test_late_replies_are_silent():
    bank = Bank()
    bank.submit()
    bank.answer(1)
    assert list(bank.reply(2)) == []
    assert list(bank.reply(3, b"lie")) == []


def test_after_the_timeout_everybody_is_asked_and_patience_doubles_up_to_a_bound():
    bank = Bank()
    (timer,) = of(SetTimer, bank.submit())
    assert timer.delay_ns == S
    now, waits = 0, []
    for _ in range(BACKOFF_MAX + 3):
        now += timer.delay_ns
        effects = bank.wake(now)
        assert sent(Request, of(Broadcast, effects))
        (timer,) = of(SetTimer, effects)
        waits.append(timer.delay_ns // S)
    assert waits == [2, 4, 8, 16, 32, 64, 64, 64, 64]


def test_a_repeated_request_is_the_same_request():
    bank = Bank()
    (first,) = sent(Request, bank.submit())
    (second,) = sent(Request, bank.wake(S))
    assert first == second


def test_a_timer_that_is_early_repeats_nothing():
    bank = Bank()
    bank.submit()
    effects = bank.wake(S // 2)
    assert sent(Request, effects) == []
    assert [e.delay_ns for e in of(SetTimer, effects)] == [S // 2]


def test_nothing_is_repeated_once_it_is_answered():
    bank = Bank()
    bank.submit()
    bank.answer(1)
    assert list(bank.wake(S)) == []


def test_once_it_knows_how_long_it_takes_it_repeats_to_the_primary_first_then_to_all():
    """After twice as long each time: a repeat may be lost, too, and whoever is slow is not to be drowned."""
    bank = Bank()
    bank.submit()
    bank.now = 20_000_000
    bank.answer(1)
    (timer,) = of(SetTimer, bank.submit(tag=2))
    asked, patience = bank.now, 3 * (20 + 4 * 10) * 1_000_000
    assert timer.delay_ns == patience
    for waited in (patience, 2 * patience, 4 * patience):
        again = bank.wake(asked + waited)
        assert [e.to for e in of(Send, again)] == [0]
        assert of(Broadcast, again) == []
        (timer,) = of(SetTimer, again)
        assert bank.now + timer.delay_ns == asked + min(2 * waited, S)
    assert of(Broadcast, bank.wake(asked + S))


def test_the_window_is_kept_and_the_rest_queues_in_order():
    bank = Bank(client_window=3)
    out = [r for tag in range(8) for r in sent(Request, bank.submit(tag, bytes([tag])))]
    assert [r.sequence for r in out] == [1, 2, 3]
    assert bank.client.unanswered == 8
    effects = bank.answer(2)
    assert sent(Request, effects) == []  # 1 is not answered: 4 could be beyond what the replicas accept
    effects = bank.answer(1)
    assert [(r.sequence, r.operation) for r in sent(Request, effects)] == [(4, b"\3"), (5, b"\4")]
    for sequence in (3, 4, 5, 6, 7, 8):
        bank.answer(sequence)
    assert bank.client.unanswered == 0


def test_honest_replicas_accept_everything_that_a_window_lets_out():
    """The client's window and the replicas' agree, also when only the oldest request is lost."""
    bank = Bank(client_window=4)
    requests = [r for tag in range(9) for r in sent(Request, bank.submit(tag))]
    for request in requests[1:]:
        bank.net.step(0, request)
    bank.net.settle()
    assert len(bank.net.executed(0)) == len(requests) - 1 == 3
    bank.net.step(0, requests[0])
    bank.net.settle()
    assert len(bank.net.executed(0)) == 4


def test_the_next_request_goes_to_the_primary_of_the_view_that_f_plus_1_vouch_for():
    bank = Bank()
    bank.submit()
    bank.reply(3, view=9)
    bank.reply(0, view=2)
    (send,) = of(Send, bank.submit(tag=2))
    assert send.to == 2


def test_a_timeout_must_be_positive():
    net = Network(4)
    with pytest.raises(ValueError, match="positive"):
        Client("bank", net.config, net.signers["bank"], net.keyring, 0)
