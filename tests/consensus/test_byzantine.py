"""Adversaries: with at most f of them nothing breaks and everybody is answered; with f+1 in league the checker fires.

Windows are tiny, so that checkpoints, snapshots and full windows happen all the time. Beside the adversary an honest
member is cut off for a while, and the adversary itself goes down and comes back.
"""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace
from tradebft.chain.crypto import QuorumCertificate, make_identities, vote_payload
from tradebft.consensus.byzantine import BEHAVIOURS, Coalition, wrap
from tradebft.consensus.byzantine.behaviour import PREFIX
from tradebft.consensus.byzantine.clients import BEHAVIOURS as CLIENT_BEHAVIOURS
from tradebft.consensus.interface import (
    Broadcast,
    Committed,
    Config,
    Evidence,
    Ignored,
    Send,
    SendBlocks,
    SetTimer,
    Start,
    TimerFired,
)
from tradebft.consensus.membership import Committee, genesis
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Decided,
    FetchReply,
    Garbage,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Request,
    ViewChange,
    authentic,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.view_change import fault_of_new_view, fault_of_view_change, proposals
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.faults import Fault
from tradebft.network.links import Normal
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh

MS, S = 10**6, 10**9
CLIENTS = ["bank", "shop", "crook"]
REQUESTS, EVERY_NS = 10, 200 * MS
END_NS = 120 * S
TAMER = {"flood": {"rate": 300}}  # what keeps the tests quick


class Run:
    """One cluster with adversaries from beginning to end, and what became of it."""

    def __init__(self, n, adversaries, dishonest=None, seed=1, faults=True, run_ns=END_NS):
        byzantine = [
            Misbehaviour(*one) if len(one) > 2 else Misbehaviour(*one, TAMER.get(one[1], {}))
            for one in adversaries
        ]
        config = Config(
            nodes=n,
            batch_size=2,
            window=2,
            checkpoint_interval=2,
            log_window=4,
            snapshot_interval=4,
            view_change_timeout_ns=300 * MS,
            client_window=8,
        )
        self.wrong = {one.node for one in byzantine}
        self.honest = [i for i in range(n) if i not in self.wrong]
        mishaps = [Fault(700 * MS, 900 * MS, "partition", groups=((self.honest[-1],),))]
        if self.wrong:
            mishaps.append(Fault(1300 * MS, 500 * MS, "crash", tuple(sorted(self.wrong))))
        self.cluster = Cluster(
            Settings(
                config,
                Wire(Normal(10 * MS, 3 * MS), Mesh(n), None, 0.0, lossy=True),
                seed,
                CLIENTS,
                client_timeout_ns=400 * MS,
                faults=mishaps if faults else [],
                byzantine=byzantine,
                dishonest_clients=dishonest or {},
            )
        )
        self.dishonest = set(dishonest or {})
        self.sent = Counter()  # (sender, kind of message)
        self.alone = Counter()  # (sender, receiver) of what is sent to one
        self.checkpoints = {}  # sequence -> digest -> who says so
        self._listen()
        self.records = []
        for position, name in enumerate(CLIENTS):
            self.cluster.env.process(self._ask(name, position * 7 * MS))
        while self.cluster.env.time < run_ns and not self._done():
            self.cluster.run(self.cluster.env.time + 200 * MS)
        self.cluster.finish()

    def _listen(self):
        bus = self.cluster.bus
        send, broadcast = bus.send, bus.broadcast

        def note_send(at, sender, to, message):
            self.sent[sender, type(message).__name__] += 1
            self.alone[sender, to] += 1
            send(at, sender, to, message)

        def note_broadcast(at, sender, message, to=None):
            self.sent[sender, type(message).__name__] += 1
            if isinstance(message, Checkpoint):
                self.checkpoints.setdefault(message.seq, {}).setdefault(message.digest, set()).add(sender)
            broadcast(at, sender, message, to)

        bus.send, bus.broadcast = note_send, note_broadcast

    def _ask(self, name, wait_ns):
        yield self.cluster.env.timeout(wait_ns)
        for number in range(REQUESTS):
            record = self.cluster.clients[name].submit(
                self.cluster.env.time, f"{name} {number}".encode(), "", lambda record: None
            )
            if name not in self.dishonest:
                self.records.append(record)
            yield self.cluster.env.timeout(EVERY_NS)

    def _done(self):
        return self.cluster.env.time > 3 * S and not self.unanswered

    @property
    def unanswered(self):
        return sum(record.replied_ns < 0 for record in self.records)

    @property
    def accusations(self):
        """What honest members and clients hold against somebody, without the numbers: (culprit, what) -> how often."""
        found = Counter()
        for entry in self.cluster.recorder.evidence:
            if entry["by"] not in self.wrong:
                what = "".join(c for c in entry["what"] if not c.isdigit())
                found[entry["culprit"], what] += 1
        return found

    def accused(self, words):
        return sum(count for (_, what), count in self.accusations.items() if words in what)

    def judge(self):
        assert self.cluster.checker.violations == []
        assert self.unanswered == 0
        assert [record.result for record in self.records if record.result.startswith(b"lie")] == []
        innocent = {*self.honest, *(set(CLIENTS) - self.dishonest)}
        assert [who for who, _ in self.accusations if who in innocent] == [], self.accusations
        executed = [self.cluster.nodes[i].replica.executed for i in self.honest]
        assert min(executed) >= len(self.records) // 2 / 2, executed  # two requests a batch at most


# --- at most f adversaries: safety, and everybody is answered ---


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize(
    ("n", "members"),
    [(4, (0,)), (4, (3,)), (7, (0,)), (7, (4,)), (7, (0, 1))],
    ids=["4-primary", "4-backup", "7-primary", "7-backup", "7-league"],
)
def test_a_behaviour_within_the_promise_breaks_nothing(n, members, behaviour):
    Run(n, [(member, behaviour) for member in members]).judge()


@pytest.mark.parametrize("behaviour", sorted(set(BEHAVIOURS) - {"silent", "equivocate"}))
def test_colluders_that_do_different_things_break_nothing(behaviour):
    Run(7, [(0, "equivocate"), (1, behaviour), (1, "vote-both")]).judge()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_many_networks_with_each_behaviour(behaviour, seed):
    n = (4, 5, 7, 10)[seed % 4]
    faults = (n - 1) // 3
    first = seed % (n - faults)
    members = [(first + k, behaviour) for k in range(faults)]
    dishonest = {"crook": sorted(CLIENT_BEHAVIOURS)[seed % len(CLIENT_BEHAVIOURS)]} if seed % 3 == 0 else None
    Run(n, members, dishonest, seed).judge()


@pytest.mark.parametrize("behaviour", CLIENT_BEHAVIOURS)
@pytest.mark.parametrize("adversaries", [[], [(0, "equivocate")], [(2, "vote-both"), (2, "replay")]])
def test_dishonest_clients_harm_nobody_else(behaviour, adversaries):
    Run(4, adversaries, {"crook": behaviour}).judge()


# --- more than f: the checker must fire ---


@pytest.mark.parametrize(
    "adversaries",
    [[(0, "equivocate"), (1, "vote-both")], [(0, "equivocate"), (0, "vote-both"), (1, "silent")]],
)
@pytest.mark.parametrize("by", ["time", "order", "subset"])
def test_f_plus_1_in_league_break_agreement_and_the_checker_sees_it(adversaries, by):
    (node, name), *others = adversaries
    run = Run(4, [(node, name, {"by": by}), *others], faults=False, run_ns=3 * S)
    broken = {violation.invariant for violation in run.cluster.checker.violations}
    assert "agreement" in broken
    assert "one-vote" not in broken  # honest members voted once


def test_f_plus_1_of_seven_need_to_be_in_league():
    """Three of seven who only vote twice, with an honest primary, break nothing; with one of them leading they do."""
    voters = [(4, "vote-both"), (5, "vote-both"), (6, "vote-both")]
    assert Run(7, voters, faults=False, run_ns=3 * S).cluster.checker.violations == []
    led = Run(7, [(0, "equivocate"), *voters[:2]], faults=False, run_ns=3 * S)
    assert "agreement" in {violation.invariant for violation in led.cluster.checker.violations}


# --- each behaviour does what it says ---


def refused(run, why):
    return run.cluster.recorder.ignored[why]


SEEN = {
    "silent": lambda run: sum(count for (sender, _), count in run.sent.items() if sender == 1) == 0,
    "omit": lambda run: 0 < run.sent[1, "Commit"] < run.sent[2, "Commit"],
    "mute-to-some": lambda run: run.alone[1, 4] > 10 and run.alone[1, 5] == run.alone[1, 6] == 0,
    "delay": lambda run: delayed(run),
    "starve": lambda run: run.sent[2, "ViewChange"] > 0,
    "withhold-bodies": lambda run: refused(run, "proposal without a batch") > 0,
    "equivocate": lambda run: run.sent[2, "ViewChange"] > 0 and run.sent[1, "PrePrepare"] > 0,
    "vote-both": lambda run: run.sent[1, "Prepare"] > 2 * run.sent[2, "Prepare"],
    "over-vote": lambda run: refused(run, "bad signature") > 0 and run.accused("two different Prepares") > 0,
    "bad-proposals": lambda run: run.accused("without leading it") > 0,
    "wrong-digest": lambda run: refused(run, "proposal whose digest is not its batch's") > 0,
    "bad-signature": lambda run: refused(run, "bad signature") > 0,
    "false-reply": lambda run: run.sent[1, "Reply"] > run.sent[2, "Reply"],
    "forge-prepared": lambda run: run.accused("invalid ViewChange") > 0,
    "false-new-view": lambda run: run.accused("invalid NewView") > 0,
    "false-checkpoint": lambda run: sum({1} in said.values() for said in run.checkpoints.values()) > 5,
    "false-epoch": lambda run: run.accused("an end of epoch") > 0,
    "lying-transfer": lambda run: run.accused("does not prove") > 0,
    "flood": lambda run: run.sent[1, "Status"] > 50 and refused(run, "status seen before") > 100,
    "malformed": lambda run: refused(run, "malformed") > 50,
    "replay": lambda run: (
        refused(run, "bad signature") > 0
        and refused(run, "vote seen before") + refused(run, "vote at or below the low watermark") > 100
    ),
    "premature": lambda run: run.sent[1, "ViewChange"] > 10,
    "amnesia": lambda run: forgets(run.cluster.nodes[1].replica),
    "mutate": lambda run: run.accusations.total() + refused(run, "bad signature") > 0,
}
ALONE = {  # where another setting than member 1 of seven, with 0 silent, shows it better
    "lying-transfer": (4, [(1, "lying-transfer")]),
    "forge-prepared": (7, [(0, "silent"), (4, "forge-prepared")]),
    "over-vote": (4, [(1, "over-vote")]),
    "flood": (7, [(0, "silent"), (1, "flood", {"rate": 1000, "kinds": "status"})]),
}


def delayed(run):
    """The delaying primary is never suspected, and serves slowly."""
    answers = [record.replied_ns - record.submitted_ns for record in run.records]
    return run.sent[1, "PrePrepare"] > 0 and sorted(answers)[len(answers) // 2] > 200 * MS


def forgets(replica):
    """Blocks and checkpoints stay with it; what it voted on is gone."""
    vote = PrePrepare(0, 1, NULL_DIGEST, 0)
    kept = QuorumCertificate("Checkpoint", 0, 2, bytes(32), ())
    lost = (vote, Prepared(vote, kept), ViewChange(1, 0, None, (), 1), NewView(1, (), (), 1))
    return replica.hears(0, Start((*lost, kept))) == Start((kept,))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_behaviour_is_seen_at_work(behaviour):
    n, members = ALONE.get(behaviour, (7, [(0, "silent"), (1, behaviour)]))
    run = Run(n, members)
    run.judge()
    assert SEEN[behaviour](run), (run.accusations, run.cluster.recorder.ignored)


# --- every single lie, without a network ---


class Inside:
    """A replica that returns what it is told to."""

    def __init__(self, me=1, n=4, **fields):
        self.me, self.config = me, Config(n, log_window=256)
        self.effects = []
        self.heard = []
        self.view, self.low, self.executed = 1, 0, 0
        self.committee = None
        for name, value in fields.items():
            setattr(self, name, value)

    def step(self, now, event):
        self.heard.append(event)
        return self.effects


@pytest.fixture
def league(signers):
    keys, keyring = signers
    return Coalition(Config(4), {1: keys[1]}, keyring)


@pytest.fixture
def signers():
    return make_identities([0, 1, 2, 3, "bank"], "modelled", 1)


@pytest.fixture
def committee(signers):
    return Committee(genesis(4), Config(4).chain_id, signers[1])


def wrapped(inside, behaviour, league, signers, **parameters):
    inside.signer = signers[0][inside.me]
    return wrap(inside, behaviour, parameters, league)


def view_change(signers, view, replica, prepared=()):
    bare = ViewChange(view, 0, None, tuple(prepared), replica)
    return signed(bare, signers)


def signed(message, signers):
    return replace(message, signature=signers[0][message.replica].sign(message.payload(Config(4).chain_id)))


def prepared_by_all(signers, view, seq, digest):
    payload = vote_payload(Config(4).chain_id, "Prepare", view, seq, digest)
    voters = [i for i in range(4) if i != view % 4][:2]
    votes = tuple((i, signers[0][i].sign(payload)) for i in voters)
    leader = signed(PrePrepare(view, seq, digest, view % 4), signers)
    return Prepared(leader, QuorumCertificate("Prepare", view, seq, digest, votes))


def test_every_lie_about_what_was_prepared_is_refused(league, signers, committee):
    true = view_change(signers, 2, 1, [prepared_by_all(signers, 0, 1, bytes(32))])
    assert fault_of_view_change(true, Config(4), committee) is None
    inside = Inside()
    inside.effects = [Broadcast(true)]
    liar = wrapped(inside, "forge-prepared", league, signers)
    told = {liar._false(true, lie) for lie in range(7)}
    assert len(told) == 7
    outcomes = [fault_of_view_change(lie, Config(4), committee) for lie in told]
    assert outcomes.count(None) == 1  # to leave out what one prepared cannot be told from not having prepared
    (effect,) = liar.step(0, Start())
    assert authentic(effect.message, Config(4).chain_id, signers[1])
    assert effect.message in {liar.signed(lie) for lie in told}


def test_every_lie_about_a_new_view_is_refused(league, signers, committee):
    one, three = bytes([1] * 32), bytes([3] * 32)
    entries = [prepared_by_all(signers, 0, 1, one), prepared_by_all(signers, 0, 3, three)]
    changes = tuple(view_change(signers, 1, i, entries if i < 2 else ()) for i in (1, 0, 2))
    _, expected = proposals(changes)
    assert [seq for seq, _ in expected] == [1, 2, 3]
    opened = tuple(signed(PrePrepare(1, seq, digest, 1), signers) for seq, digest in expected)
    true = signed(NewView(1, changes, opened, 1), signers)
    assert fault_of_new_view(true, Config(4), committee) is None
    liar = wrapped(Inside(), "false-new-view", league, signers)
    for lie in range(9):
        message = liar.signed(liar._false(true, lie))
        assert authentic(message, Config(4).chain_id, signers[1])
        assert fault_of_new_view(message, Config(4), committee), f"lie {lie} would be believed"


def test_every_lie_to_whoever_fell_behind_is_refused(league, signers):
    config = Config(4)
    liar = wrapped(Inside(), "lying-transfer", league, signers)
    for seq in (1, 2, 3):
        request = signed_request(signers, seq, b"op")
        batch = Batch(seq, (request,))
        payload = vote_payload(config.chain_id, "Commit", 0, seq, batch.digest)
        votes = tuple((i, signers[0][i].sign(payload)) for i in range(3))
        decided = Decided(seq, batch, QuorumCertificate("Commit", 0, seq, batch.digest, votes))
        liar.inner.effects = [Committed(seq, decided, (request,))]
        liar.step(0, Start())
    held = {block.seq: block for block in liar._decided}
    for lie in range(6):
        blocks = tuple(liar._block(seq, lie, held) for seq in (2, 3))
        behind = Replica(0, config, signers[0][0], signers[1])
        behind.executed = 1
        effects = behind.step(0, liar.signed(FetchReply(blocks, (), None, 1)))
        assert behind.executed == 1, f"lie {lie} was believed"
        assert [e.culprit for e in effects if isinstance(e, Evidence)] == [1]
    liar.inner.effects = [SendBlocks(0, 1, 3, None)]
    (effect,) = liar.step(0, Start())
    assert isinstance(effect, Send)
    assert authentic(effect.message, config.chain_id, signers[1])


def signed_request(signers, sequence, operation):
    request = Request("bank", sequence, operation)
    return replace(request, signature=signers[0]["bank"].sign(request.payload(Config(4).chain_id)))


# --- the shape of wrappers ---


def test_wrappers_stack_and_keep_their_timers_to_themselves(league, signers):
    inside = Inside()
    inner = wrapped(inside, "premature", league, signers)
    again = wrap(inner, "premature", {"every_ms": 7}, league)
    outer = wrap(again, "malformed", {"every_ms": 3}, league)
    timers = {
        effect.name: effect.delay_ns for effect in outer.step(0, Start()) if isinstance(effect, SetTimer)
    }
    assert sorted(timers.values()) == [3 * MS, 7 * MS, 100 * MS]
    assert all(name.startswith(PREFIX) for name in timers)
    for name, period_ns in timers.items():
        effects = outer.step(S, TimerFired(name))
        (sent,) = [effect.message for effect in effects if isinstance(effect, Broadcast)]
        assert isinstance(sent, Garbage if period_ns == 3 * MS else ViewChange)
        assert [effect for effect in effects if isinstance(effect, SetTimer)] == [SetTimer(name, period_ns)]
    assert inside.heard == [Start()]  # the replica inside never hears of them
    outer.step(S, TimerFired("view-change"))
    assert inside.heard[-1] == TimerFired("view-change")
    mute = wrap(inner, "silent", {}, league)
    mute.step(0, Start())
    name = next(name for name in timers if timers[name] == 100 * MS)
    assert [e for e in mute.step(S, TimerFired(name)) if isinstance(e, Broadcast)] == []


def test_a_behaviour_has_a_beginning_and_an_end(league, signers):
    inside = Inside()
    inside.effects = [Broadcast(signed(Commit(0, 1, bytes(32), 1), signers)), Ignored("so what")]
    quiet = wrapped(inside, "silent", league, signers, at_ns=5, until_ns=9)
    assert [len(quiet.step(now, Start())) for now in (4, 5, 8, 9)] == [2, 1, 1, 2]


def test_a_wrapper_shows_the_replica_inside(league, signers):
    inside = Inside(executed=17)
    outer = wrap(wrapped(inside, "silent", league, signers), "delay", {}, league)
    assert (outer.me, outer.executed, outer.signer) == (1, 17, signers[0][1])
    with pytest.raises(AttributeError):
        _ = outer.nothing_of_the_kind


@pytest.mark.parametrize(
    ("behaviour", "parameters", "words"),
    [
        ("slient", {}, "no behaviour 'slient'"),
        ("silent", {"percent": 3}, "has no parameter 'percent'"),
        ("omit", {"percent": "three"}, "percent: expected a whole number"),
        ("omit", {"percent": -1}, "percent: expected at least 0"),
        ("omit", {"percent": 101}, "percent: expected at most 100; found 101"),
        ("equivocate", {"by": "tiem"}, "by: expected one of time, order, subset; found 'tiem'"),
        ("mutate", {"scope": ""}, "scope: expected one of small, any"),
        ("premature", {"every_ms": 0}, "every_ms: expected at least 1"),
        ("flood", {"kinds": "status stauts"}, "found 'stauts'"),
    ],
)
def test_a_mistake_in_a_behaviour_is_named(league, signers, behaviour, parameters, words):
    with pytest.raises(ValueError, match=words):
        wrapped(Inside(), behaviour, league, signers, **parameters)


def test_nobody_signs_for_whoever_is_not_in_the_coalition(league):
    with pytest.raises(KeyError):
        league.sign_as(2, Prepare(0, 1, bytes(32), 2))


def test_the_same_network_repeats_its_adversaries_exactly():
    def digest(seed):
        return Run(4, [(0, "mutate"), (0, "omit")], seed=seed).cluster.recorder.trace.hex()

    assert digest(3) == digest(3) != digest(4)
