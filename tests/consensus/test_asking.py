"""When a replica asks its peers what it misses, and what they tell it: catching up after loss (docs/protocol.md)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistakes import STATUS, VIEW, backup, prepare_and_commit
from replicas import Network, sent
from tradebft.consensus.interface import Send
from tradebft.consensus.messages import Commit, FetchReply, Prepare, PrePrepare, Status
from tradebft.consensus.round_trip import LEAST_NS, RoundTrip

MS = 1_000_000
T = 1000 * MS
LONGEST = T * 9 // 10  # what a replica waits that does not know how long a decision takes


# --- how long something usually takes ---


def test_a_first_sample_has_half_of_itself_as_deviation_and_then_both_are_smoothed():
    """RFC 6298, (2.2) and (2.3): gains of an eighth and a quarter."""
    usual = RoundTrip()
    assert not usual.known
    assert usual.patience(2, T) == T
    usual.sample(80 * MS)
    assert usual.standing == (80 * MS, 40 * MS)
    usual.sample(120 * MS)
    assert usual.standing == (85 * MS, 40 * MS)
    assert usual.patience(2, T) == 2 * (85 + 4 * 40) * MS


def test_what_had_to_be_repeated_counts_only_if_it_was_sooner_than_usual():
    """Karn and Partridge: how long it would have taken without nobody knows, but not longer."""
    usual = RoundTrip()
    usual.sample(80 * MS)
    usual.sample(900 * MS, repeated=True)
    assert usual.standing == (80 * MS, 40 * MS)
    usual.sample(40 * MS, repeated=True)
    assert usual.standing == (75 * MS, 40 * MS)


@given(st.lists(st.tuples(st.integers(0, 10 * T), st.booleans()), max_size=30), st.integers(LEAST_NS, 10 * T))
def test_patience_keeps_its_bounds(samples, longest):
    usual = RoundTrip()
    for took, repeated in samples:
        usual.sample(took, repeated)
        assert LEAST_NS <= usual.patience(2, longest) <= longest
        assert usual.known


# --- when it asks ---


def status(net, of, executed=0, nonce=1):
    """The question of member *of*."""
    return net.signed(Status(0, False, 0, 0, executed, nonce, of))


def decided(net, me, seq, took, asked=False):
    """*me* decides the batch of *seq* so long after it was proposed; *asked*: somebody asks meanwhile."""
    batch = net.batch(seq)
    net.step(me, net.pre_prepare(batch, seq))
    net.now += took
    if asked:
        net.step(me, status(net, 3, seq - 1, nonce=seq))
    prepare_and_commit(net, me, batch, seq)


def test_the_first_decision_tells_for_how_long_to_wait():
    """Until then it could take nearly as long as a primary may: that long a lost first message would go unnoticed."""
    net, me = backup(4), 2
    net.step(me, net.pre_prepare(net.batch(1), 1))
    assert net.timers[me][STATUS] == LONGEST
    net.now = 30 * MS
    prepare_and_commit(net, me, net.batch(1), 1)
    assert net.timers[me][STATUS] == 30 * MS + 2 * (30 + 4 * 15) * MS


def test_a_fixed_interval_stays_what_it_is():
    net, me = backup(4, status_interval_ns=400 * MS), 2
    decided(net, me, 1, took=30 * MS)
    assert net.timers[me][STATUS] == 400 * MS


def test_a_slow_decision_is_not_usual_if_anybody_had_to_ask():
    """Else one loss makes all wait longer with the next."""
    net, me = backup(4), 2
    decided(net, me, 1, took=30 * MS)
    decided(net, me, 2, took=900 * MS, asked=True)
    assert net.replicas[me].usual.standing == (30 * MS, 15 * MS)
    net.now += 1
    decided(net, me, 3, took=90 * MS)
    assert net.replicas[me].usual.standing > (30 * MS, 15 * MS)


def test_a_batch_that_waits_for_the_one_before_is_decided_all_the_same():
    """What counts is how long votes take, not how long the order holds a batch up."""
    net, me = backup(4), 2
    decided(net, me, 1, took=30 * MS)
    net.step(me, net.pre_prepare(net.batch(2), 2))
    decided(net, me, 3, took=30 * MS)
    assert net.replicas[me].executed == 1
    assert net.replicas[me].usual.standing == (30 * MS, 15 * MS * 3 // 4)
    net.now += 400 * MS
    prepare_and_commit(net, me, net.batch(2), 2)
    assert net.replicas[me].executed == 3
    assert net.replicas[me].usual.standing[0] == (30 + 400 / 8) * MS


@pytest.mark.parametrize("news", ["proposal", "prepare", "commit"])
def test_whoever_hears_more_of_the_next_batch_waits_on(news):
    """Votes that trickle in are progress: a network that is slow and loses nothing has nothing to repeat."""
    net, me = backup(4), 2
    batch = net.batch(1)
    for voter in (0, 1):
        net.step(me, net.commit(voter, batch.digest))  # f+1: there is something that this replica missed
    assert STATUS in net.timers[me]
    message = {
        "proposal": net.pre_prepare(batch),
        "prepare": net.prepare(3, batch.digest),
        "commit": net.commit(3, batch.digest),
    }[news]
    due = net.timers[me][STATUS]
    net.now = due // 3
    net.step(me, message)
    assert sent(Status, net.fire(me, STATUS)) == []
    assert net.timers[me][STATUS] == due + due // 3  # a whole interval after it
    assert len(sent(Status, net.fire(me, STATUS))) == 1


def test_a_primary_whose_batch_fills_up_misses_nothing():
    """Its timer still runs from the batch before, and long ago it came further."""
    net = Network(4, running=[0], batch_size=2, batch_timeout_ns=10 * T)
    net.step(0, net.request(1))
    net.step(0, net.request(2))
    assert STATUS in net.timers[0]
    batch = net.replicas[0].slots[1].batch
    for vote in (net.prepare, net.commit):
        for voter in (1, 2):
            net.step(0, vote(voter, batch.digest))
    assert net.replicas[0].executed == 1
    net.now = net.timers[0][STATUS] - MS
    net.step(0, net.request(3))
    assert sent(Status, net.fire(0, STATUS)) == []
    net.step(0, net.request(4))  # proposed, and nobody answers
    assert len(sent(Status, net.fire(0, STATUS))) == 1


def test_what_is_news_of_a_later_batch_does_not_keep_anybody_from_asking():
    """While a pipeline fills up behind a batch that nobody completes, all of it stands still."""
    net, me = backup(4), 2
    net.step(me, net.pre_prepare(net.batch(1)))
    net.now = net.timers[me][STATUS] // 2
    net.step(me, net.pre_prepare(net.batch(2), 2))
    net.step(me, net.prepare(3, net.batch(2).digest, 2))
    assert [status.executed for status in sent(Status, net.fire(me, STATUS))] == [0]


def execution(net, me):
    prepare_and_commit(net, me, net.batch(1))


def checkpoint(net, me):
    net.step(me, net.signed(FetchReply((), (), net.stable(1), 1)))


def block(net, me):
    net.step(me, net.signed(FetchReply((net.decided(1, net.batch(1)),), (), None, 1)))


@pytest.mark.parametrize("progress", [execution, checkpoint, block])
def test_progress_is_an_execution_or_a_stable_checkpoint(progress):
    net, me = backup(4), 2
    net.step(me, net.pre_prepare(net.batch(2), 2))
    net.now += 100 * MS
    progress(net, me)
    since, interval = net.now, net.replicas[me]._status_interval()
    while not any(status.executed or status.stable for status in sent(Status, net.fire(me, STATUS))):
        pass
    assert net.now == since + interval


@pytest.mark.parametrize("vote", ["prepare", "commit"])
def test_f_plus_one_votes_on_a_proposal_that_was_never_seen_make_a_replica_ask(vote):
    """One of them is honest. Else a proposal, lost to several, would be missed by those alone who do not know of it."""
    net, me = backup(7, me=6), 6
    digest = net.batch(1).digest
    for voter in (1, 2):
        net.step(me, getattr(net, vote)(voter, digest))
        assert STATUS not in net.timers[me]  # f of them may have made it up
    net.step(me, getattr(net, vote)(3, digest))
    assert [status.executed for status in sent(Status, net.fire(me, STATUS))] == [0]
    assert STATUS in net.timers[me]  # and once more, later


# --- what it is told ---


def test_a_stuck_primary_sends_its_next_proposal_again_to_whoever_has_not_voted():
    """Of six backups four were never shown it: the two who were do not make f+1, and nobody else can know."""
    net = Network(7, running=[0])
    (proposal,) = sent(PrePrepare, net.step(0, net.request(1)))
    net.step(0, net.prepare(1, proposal.digest))
    net.step(0, net.commit(5, proposal.digest))
    again = [e for e in net.fire(0, STATUS) if isinstance(e, Send)]
    assert [(e.to, e.message) for e in again] == [(peer, proposal) for peer in (2, 3, 4, 6)]
    net.step(0, net.request(2))  # whoever is shown this proposal knows of the first, and asks
    assert sent(PrePrepare, net.fire(0, STATUS)) == []


def test_a_stuck_primary_does_not_put_into_a_queue_what_waits_in_it():
    net, (proposal,) = busy_primary([30 * MS, *[2000 * MS] * 20])
    net.step(0, net.prepare(1, proposal.digest, 22))
    assert sent(PrePrepare, net.fire(0, STATUS)) == []
    net.now = net.timers[0][STATUS] + 2000 * MS
    assert sent(PrePrepare, net.step(0, status(net, 3, executed=21))) == [proposal]
    again = [e for e in net.fire(0, STATUS) if isinstance(e, Send)]
    assert [(e.to, e.message) for e in again] == [(2, proposal)]  # 3 has just been sent it


def test_who_leads_no_open_view_repeats_no_proposal():
    net = Network(4, running=[0, 2])
    net.step(0, net.request(1))
    (proposal,) = {m for _, m in net.bag if isinstance(m, PrePrepare)}
    net.step(2, proposal)
    assert sent(PrePrepare, net.fire(2, STATUS)) == []
    for other in (1, 2):
        net.step(0, net.view_change(other))  # f+1: it joins them
    assert net.replicas[0].changing
    assert sent(PrePrepare, net.fire(0, STATUS)) == []


def test_whoever_voted_for_a_proposal_is_not_sent_it_again():
    """A batch may be a megabyte, and whoever asks in a crowd has it."""
    net = Network(4, running=[0])
    (proposal,) = sent(PrePrepare, net.step(0, net.request(1)))
    net.step(0, net.prepare(1, proposal.digest))
    net.step(0, net.commit(2, proposal.digest))
    told = {i: sent(PrePrepare, net.step(0, status(net, i))) for i in (1, 2, 3)}
    assert told == {1: [], 2: [], 3: [proposal]}


def busy_primary(took):
    """A primary, and what its last proposal was, after batches that took so long each."""
    net = Network(4, running=[0])
    for seq, ns in enumerate(took, start=1):
        (proposal,) = sent(PrePrepare, net.step(0, net.request(seq)))
        net.now += ns
        for other in (1, 2, 3):
            net.step(0, net.prepare(other, proposal.digest, seq))
            net.step(0, net.commit(other, proposal.digest, seq))
    return net, sent(PrePrepare, net.step(0, net.request(len(took) + 1)))


def test_a_proposal_that_waits_in_a_queue_is_not_put_there_once_more():
    """Large copies would wait behind the first, and everything else behind them. Once it is overdue it was lost."""
    net, (proposal,) = busy_primary([30 * MS, *[2000 * MS] * 20])
    queueing, executed = net.replicas[0].usual.standing[0] - 30 * MS, 21
    assert 1500 * MS < queueing < 1970 * MS
    asks = iter(range(1, 99))

    def repeated(peer):
        return sent(PrePrepare, net.step(0, status(net, peer, executed, next(asks))))

    net.now += queueing - 1
    assert repeated(3) == []
    net.now += 1
    assert repeated(3) == [proposal]
    net.now += queueing - 1
    assert repeated(3) == []
    assert repeated(2) == [proposal]  # who was not sent it twice
    net.now += 1
    assert repeated(3) == [proposal]


def test_where_nothing_queues_whoever_asks_is_sent_the_proposal_at_once():
    net, (proposal,) = busy_primary([30 * MS] * 5)
    assert sent(PrePrepare, net.step(0, status(net, 3, executed=5))) == [proposal]


def test_whoever_leads_only_now_knows_nothing_of_its_own_queue():
    """As a backup it may have decided at once what it was shown last; a proposal takes longer."""
    net, me = backup(4, me=1), 1
    batch = net.batch(1)
    for voter in (0, 2, 3):
        net.step(me, net.commit(voter, batch.digest))
    prepare_and_commit(net, me, batch)  # in no time
    for seq in (2, 3, 4):
        decided(net, me, seq, took=100 * MS)
    net.step(me, net.request(5))
    net.fire(me, VIEW)
    for other in (0, 2):
        net.step(me, net.view_change(other))
    assert net.replicas[me].is_primary
    (proposal,) = sent(PrePrepare, net.step(me, net.request(6)))
    asked = net.signed(Status(1, False, 0, 0, 4, 99, 3))
    assert proposal in sent(PrePrepare, net.step(me, asked))


def test_between_views_questions_are_asked_as_seldom_as_the_timeouts_are_long():
    """ViewChanges are large: where views fail one after the other, repeating them would fill the links."""
    net, me = backup(7, me=6), 6
    intervals = []
    net.step(me, net.request(1))
    for view in (1, 2, 3):
        net.now += MS
        net.fire(me, VIEW)
        for other in range(4):
            net.step(me, net.view_change(other, view))
        gaps = []
        for _ in range(5):
            gaps.append(round((net.timers[me][STATUS] - net.now) / LONGEST))
            net.fire(me, STATUS)
        intervals.append(gaps)
    # The first timer of a view was set before it: what is then left of an interval since the view began is waited for.
    assert intervals == [[1, 0, 1, 1, 1], [1, 0, 2, 2, 2], [2, 2, 4, 4, 4]]


def left_alone(me: int) -> Network:
    """A replica that suspected the primary for a request that has been executed since; nobody else left the view."""
    net, me = backup(7, me=me), me
    net.step(me, net.request(1))
    net.fire(me, VIEW)
    net.step(me, net.signed(FetchReply((net.decided(1, net.batch(1)),), (), None, 0)))
    assert net.executed(me) == [("bank", 1)]
    return net


def gap(net: Network, me: int) -> int:
    """For how many of the longest intervals the status timer runs."""
    return round((net.timers[me][STATUS] - net.now) / LONGEST)


def test_whoever_left_its_view_alone_asks_ever_more_seldom_while_nothing_is_to_be_had():
    """A night without requests: it would tell everybody every second that it wants a change of view."""
    net, me = left_alone(6), 6
    gaps = []
    for _ in range(12):
        net.fire(me, STATUS)
        gaps.append(gap(net, me))
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024]


def test_where_something_is_missed_a_doze_is_a_small_part_of_what_was_waited_for_already():
    """More than f members are down, for a day; clients wait. Questions at intervals of a share of the time grow as its
    logarithm, and whoever comes back is not kept waiting for much longer than the outage took."""
    net, me = backup(7, me=6), 6
    net.step(me, net.request(1))
    net.fire(me, VIEW)
    begun, asked = net.now, 0
    while net.now - begun < 86_400 * T:
        assert gap(net, me) <= max(1, round((net.now - begun) / 64 / LONGEST))
        net.fire(me, STATUS)
        asked += 1
    at_first = 64  # until a 64th of it is an interval
    assert asked == pytest.approx(at_first * (1 + math.log(86_400 * T / (at_first * LONGEST))), rel=0.05)


def test_nobody_dozes_where_a_quorum_wants_the_view_and_its_primary_owes_a_new_view():
    net, me = left_alone(6), 6
    for other in (2, 3, 4, 5):
        net.step(me, net.view_change(other))
    net.fire(me, STATUS)
    for _ in range(5):
        net.fire(me, STATUS)
        assert gap(net, me) == 1


def test_who_names_an_interval_gets_it_for_as_long_as_it_takes():
    net, me = backup(7, me=6, status_interval_ns=300 * MS), 6
    net.step(me, net.request(1))
    net.fire(me, VIEW)
    for _ in range(1000):
        net.fire(me, STATUS)
        assert net.timers[me][STATUS] - net.now == 300 * MS


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (lambda net: net.request(2), True),
        (lambda net: net.prepare(2, net.batch(2).digest, 2), True),
        (lambda net: net.pre_prepare(net.batch(2), 2), True),
        (lambda net: net.view_change(2), True),
        (lambda net: net.request(1), False),
        (lambda net: net.commit(2, net.batch(1).digest, 1), False),
        (lambda net: net.view_change(2, view=0), False),
    ],
)
def test_whatever_comes_up_wakes_it(news, wakes: bool):
    """A request to wait for, blocks to ask for, others who leave the view too."""
    net, me = left_alone(6), 6
    for _ in range(6):
        net.fire(me, STATUS)
    net.now += MS
    before = net.timers[me][STATUS]
    net.step(me, news(net))
    assert gap(net, me) == (1 if wakes else 32)
    net.now += MS
    told = net.timers[me][STATUS]
    assert (told < before) == wakes
    net.step(me, news(net))  # and does not put the question off
    assert net.timers[me][STATUS] == told


def test_whoever_dozed_and_is_shown_a_view_asks_in_it_as_soon_as_anybody():
    net, me = left_alone(6), 6
    for _ in range(6):
        net.fire(me, STATUS)
    assert gap(net, me) == 32
    net.step(me, net.new_view([net.view_change(voter) for voter in range(5)]))
    assert not net.replicas[me].changing
    assert gap(net, me) <= 1


def test_of_what_is_decided_nobody_is_sent_single_votes_or_proposals():
    """Blocks say it, and prove it."""
    net = Network(4)
    net.step(0, net.request(1))
    net.settle()
    effects = [e for nonce in (1, 2, 3, 4) for e in net.step(0, status(net, 3, nonce=nonce))]
    assert sent(PrePrepare, effects) == sent(Prepare, effects) == sent(Commit, effects) == []


def test_whoever_voted_and_restarts_has_the_proposal_on_its_disk():
    """That a vote was heard means that its proposal is durable: with the votes of others it goes on."""
    net = Network(4)
    net.step(0, net.request(1))
    while net.bag:  # only the primary hears votes
        to, message = net.bag[0]
        lost = isinstance(message, Commit) or (isinstance(message, Prepare) and to != 0)
        net.bag.pop(0) if lost else net.deliver()
    net.restart(2)
    (question,) = {m for _, m in net.bag if isinstance(m, Status)}
    assert sent(PrePrepare, net.step(0, question)) == []
    net.bag = [(to, m) for to, m in net.bag if to != 0]
    for _ in range(4):
        for i in range(4):
            net.catch_up(i, rounds=1)
    assert {replica.executed for replica in net.replicas.values()} == {1}
