"""The compiled engine takes a run back from the reference once that is back to the normal case, and hands it over
again: to and fro, and it leaves what the reference leaves."""

import random

import pytest
from drawn_scenarios import drawn, led, rough, ties, wild
from msgspec.structs import replace
from test_engines import compare, differences, silent
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Commit,
    PrePrepare,
    Reply,
    Request,
    Status,
    result_digest,
)
from tradebft.network.application import HashChain
from tradebft.network.chance import Chance
from tradebft.network.delays import Alone
from tradebft.network.virtual_time import Flight
from tradebft.scenarios import simulation
from tradebft.scenarios.run import client_names, execute
from tradebft.scenarios.schema import Scenario, load
from tradebft.scenarios.synthetic import SyntheticLoad

CompiledCluster = pytest.importorskip("tradebft.network.compiled.cluster").CompiledCluster
settled = pytest.importorskip("tradebft.network.compiled.settled")
Returning = pytest.importorskip("tradebft.network.compiled.returning").Returning
turns = pytest.importorskip("tradebft.network.compiled.turns")


def at_once(monkeypatch):
    """The engine takes a run back as soon as it can."""
    for name, least in (("LEAST", 1), ("LOOK", 1), ("SHORT", 0), ("ROUNDS", 0)):
        monkeypatch.setattr(turns, name, least)


def restless(monkeypatch, share):
    """It hands a run over again and again, at any moment (that *share* of them), and takes it back as soon as it can;
    how often it has taken one back."""
    at_once(monkeypatch)
    advance, take_back, taken = CompiledCluster.advance, CompiledCluster._take_back, [0]

    def advanced(self, until, number):
        dice = vars(self).setdefault("dice", random.Random(self.settings.seed))
        if dice.random() < share:
            self.hand_over("a whim")
            return True
        return advance(self, until, number)

    def took_back(self, *given):
        taken[0] += 1
        take_back(self, *given)

    monkeypatch.setattr(CompiledCluster, "advance", advanced)
    monkeypatch.setattr(CompiledCluster, "_take_back", took_back)
    return taken


@pytest.mark.parametrize(
    ("made", "share", "least"),
    [(drawn, 0.05, 40), (rough, 0.1, 40), (wild, 0.2, 100), (ties, 0.2, 70), (led, 0.1, 60)],
)
def test_to_and_fro_a_run_leaves_the_same(monkeypatch, made, share, least):
    taken = restless(monkeypatch, share)
    for number in range(4, 12):
        assert differences(made(number), "compiled") == [], number
    assert taken[0] >= least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "share"), [(drawn, 0.02), (rough, 0.05), (wild, 0.2), (ties, 0.2), (led, 0.1)]
)
def test_to_and_fro_hundreds_of_runs_leave_the_same(monkeypatch, made, share):
    taken = restless(monkeypatch, share)
    assert compare("compiled", range(2000, 2150), made, seconds=15) >= 140
    print(f"{made.__name__}: taken back {taken[0]} times")


@pytest.mark.parametrize(
    ("made", "number"),
    [
        (rough, 1043),  # an old proposal arrives after the return, and takes its time to be checked
        (led, 1050),  # an old Status does, and is answered with old blocks
        (led, 1361),  # a request that was repeated arrives when its client has gone a window beyond it
    ],
)
def test_what_is_late_is_taken_as_it_was(made, number):
    assert differences(made(number), "compiled") == []


def crash(at, transactions=3000):
    links = {"nodes": 4, "links": {"model": "normal", "mean": "5 ms", "std": "1 ms"}}
    work = {"kind": "synthetic", "transactions": transactions, "arrival": "open", "rate": 1000, "clients": 3}
    fault = [{"at": at, "crash": "replica.0"}]
    timeouts = {"view_change_timeout": "200 ms", "client_timeout": "1 s"}
    return Scenario.model_validate(
        {"network": links, "workload": work, "fault": fault, "consensus": timeouts}
    )


def test_after_the_view_change_of_a_crashed_primary_the_engine_has_the_rest():
    records = execute(crash("300 ms"), silent, engine="compiled")
    assert records.engine_why.startswith("the reference from 0.3 s to ")
    assert records.engine_why.endswith(" s, for a fault (crash)")
    until = float(records.engine_why.split()[6])
    assert 0.5 < until < 2.5
    assert set(records.decisions.filter(records.decisions["proposed_ns"] > until * 1e9)["view"]) == {1}
    assert differences(crash("300 ms"), "compiled") == []


def telling(execute):
    """An application that tells each client something of its own."""

    def executed(self, decided, fresh):
        results = tuple(f"{request.client} {request.sequence}".encode() for request in fresh)
        found = execute(self, decided, fresh)
        return replace(found, results=results, result_digests=tuple(map(result_digest, results)))

    return executed


def test_it_keeps_what_it_has_taken_back(monkeypatch):
    """Nothing that it wrote down makes it hand the run over again: each client asks for several windows more."""
    at_once(monkeypatch)
    monkeypatch.setattr(HashChain, "execute", telling(HashChain.execute))
    scenario, results = crash("100 s", 6000), []
    for engine in ("reference", "compiled"):
        ours = simulation.cluster(scenario, client_names(scenario.workload), engine=engine)
        SyntheticLoad(scenario, scenario.workload, ours).start()
        ours.run(500_000_000)
        if engine == "compiled":
            ours.hand_over("a whim")
        ours.run(8_000_000_000)
        asked = [record for client in ours.clients.values() for record in client.records]
        results.append([(record.sequence, record.seq, record.result) for record in asked])
    assert results[0] == results[1]
    assert all(result for *_, result in results[0])
    assert ours.handed_over.startswith("the reference from 0.5 s to 0.5")
    assert ours.handed_over.endswith(" s, for a whim")


def test_the_picture_of_one_round_is_whole_whoever_had_which_part_of_it(monkeypatch):
    at_once(monkeypatch)
    pictures, open_at = [], 0
    for moment in [-1, *range(1_000_000, 40_000_000, 1_500_000)]:
        scenario = crash("100 s", 40)
        engine = "compiled" if moment > 0 else "reference"
        ours = simulation.cluster(scenario, client_names(scenario.workload), engine=engine)
        SyntheticLoad(scenario, scenario.workload, ours).start()
        if moment > 0:
            ours.run(moment)
            ours.hand_over("a whim")
            while ours.elsewhere and ours.env.time < 200_000_000:
                ours.run(ours.env.time + 200_000)
            open_at += ours.recorder.round_seq > 0 and ours.recorder.round_open
        ours.run(500_000_000)
        ours.finish()
        pictures.append(sorted((type(row[0]).__name__, *row[1:]) for row in ours.recorder.round))
    assert open_at >= 3
    assert [one == pictures[0] for one in pictures] == [True] * len(pictures)


def test_to_and_fro_what_banks_are_told_is_the_same(monkeypatch):
    taken = restless(monkeypatch, 0.3)
    assert differences(load("guizhou-pilot", {"days": 4}, 3), "compiled") == []
    assert taken[0] >= 15


def test_a_client_that_knows_an_earlier_primary_needs_the_reference_once_more(monkeypatch):
    """It has not asked since: its request goes to whoever led when it did."""
    at_once(monkeypatch)
    scenario = crash("300 ms", 1000)
    ours = simulation.cluster(scenario, client_names(scenario.workload), engine="compiled")
    SyntheticLoad(scenario, scenario.workload, ours).start()
    ours.run(3_000_000_000)
    assert (ours.elsewhere, ours.primary) == (False, 1)
    answers, idle = [], ours.clients["client.0"]
    idle.client.view = 0
    idle.submit(ours.env.time, b"x", "", answers.append)
    assert ours.elsewhere
    assert ours.handed_over.endswith("for a client that knows an earlier primary")
    ours.run(6_000_000_000)
    assert [answer.replied_ns > 0 for answer in answers] == [True]


def test_who_had_the_run_when():
    told = turns.Turns(4)
    assert str(told) == ""
    told.reference(1_000_000_000, 500, "a view change")
    assert str(told) == "the reference from 1 s on, for a view change"
    told.engine(2_500_000_000, 9_000)
    told.reference(3_000_000_000, 9_100, "a full inbox")
    expected = "the reference from 1 s to 2.5 s, for a view change; from 3 s on, for a full inbox"
    assert str(told) == expected
    for _ in range(2):
        told.engine(4_000_000_000, 20_000)
        told.reference(5_000_000_000, 20_100, "a full inbox")
    first = "from 1 s to 2.5 s, for a view change"
    assert str(told) == f"the reference 4 times, first {first}; last from 5 s on, for a full inbox"


def test_who_keeps_a_run_for_a_moment_only_is_given_it_ever_more_rarely():
    told, delivered, waits = turns.Turns(4), 0, []
    for kept in (10, 10, 10, turns.SHORT, 10):
        told.reference(0, delivered, "a whim")
        begun = delivered
        while not told.look(delivered):
            delivered += 1
        waits.append(delivered - begun)
        assert not told.look(delivered)  # some time passes before the next look
        told.engine(0, delivered)
        delivered += kept
    assert waits == [turns.LEAST << k for k in (0, 1, 2, 3, 3)]


def elsewhere(at=300_000_000):
    """A run that the reference has had since then, though nothing is in the engine's way."""
    scenario = crash("100 s")
    ours = simulation.cluster(scenario, client_names(scenario.workload), engine="compiled")
    SyntheticLoad(scenario, scenario.workload, ours).start()
    ours.run(at)
    rest = ours.hand_over("a test")
    settled.Settled(rest)
    return rest


def a_request_to(*receivers):
    def put(rest):
        client = rest.clients["client.0"]
        request = Request("client.0", 9_999, b"x")
        rest.env.launch(Flight(rest.env.time, request, list(receivers), [1] * len(receivers), client.index))

    return put


def change(field, value, of=1):
    def put(rest):
        setattr(rest.inner(rest.nodes[of]), field, value)

    return put


def vote_for(seq, replica):
    """A vote for a checkpoint, as if replica 1 had counted it."""

    def put(rest):
        rest.inner(rest.nodes[1]).checkpoints.add(Checkpoint(seq, b"state", replica))

    return put


def other_votes(rest):
    seq = rest.inner(rest.nodes[1]).low + rest.config.checkpoint_interval
    vote_for(seq, 2)(rest)
    rest.inner(rest.nodes[3]).checkpoints.add(Checkpoint(seq, b"another state", 2))


def own_vote(rest):
    rest.inner(rest.nodes[1]).own_checkpoints[16] = Checkpoint(16, b"state", 1)


def a_manifest(rest):
    rest.inner(rest.nodes[1]).manifests[16] = None


TURNED = object()


def open_slot(field, value):
    """Something is changed in a slot whose votes replica 1 still counts."""

    def put(rest):
        slots = rest.inner(rest.nodes[1]).slots.values()
        slot = next(slot for slot in slots if slot.digest is not None and not slot.closed)
        setattr(slot, field, not slot.prepared_now if value is TURNED else value)

    return put


def told_twice(rest):
    """By a backup, of a request that its client still waits for."""
    client = rest.clients["client.0"]
    asked, _ = next(iter(client.client.outstanding()))
    for _ in range(2):
        reply = Reply(0, "client.0", asked.sequence, 2, 1, b"digest", b"result")
        rest.env.launch(Flight(rest.env.time, reply, [client.index], [1], 2))


def an_old_proposal(rest):
    leader = rest.inner(rest.nodes[0])
    block = rest.chronicle.blocks[1].decided
    old = PrePrepare(0, 1, block.batch.digest, 0, block.batch)
    rest.env.launch(Flight(rest.env.time, old, [1], [1], 0))
    assert leader.low > 1


def an_old_question(rest):
    """It may be answered with blocks that the engine has not."""
    asked = Status(0, False, 0, 0, 0, 1, 3)
    rest.env.launch(Flight(rest.env.time, asked, [1, 2], [1, 2], 3))


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (an_old_proposal, "votes far behind"),
        (an_old_question, "a question from far behind"),
        (vote_for(10**6, 2), "votes for checkpoints far ahead"),
        (other_votes, "checkpoints that differ"),
        (own_vote, "votes never given"),
        (a_manifest, "a snapshot that others have"),
        (open_slot("prepared_now", TURNED), "what was prepared in an earlier view"),
        (open_slot("batch", None), "a batch that is missing"),
        (open_slot("prepares", {}), "a Prepare that is missing"),
        (open_slot("commits", {1: Commit(0, 1, b"another", 1)}), "votes for something else"),
        (told_twice, "replies that are repeated"),
        (lambda rest: rest.bus.crash(rest.nodes[0]), "the primary is away"),
        (change("view", 1), "the primary is away|a change of view"),
        (change("view", 128), "a view of a higher number"),
        (change("changing", True), "a change of view"),
        (change("backoff", 1), "a view that is hardly begun"),
        (change("installing", True), "a snapshot that is being fetched"),
        (change("watched", ("client.0", 1)), "a backup that waits for more"),
        (change("watched", 5, of=0), "a backup that waits for more"),
        (lambda rest: rest.nodes[2].tear(print), "not level with its application"),
        (a_request_to(1), "a request to all"),
        (a_request_to(0, 0), "messages that arrive twice"),
        (a_request_to(0, 1, 2, 3), "a request to all"),
    ],
)
def test_what_is_in_the_way(what, why):
    rest = elsewhere(303_000_000)
    what(rest)
    with pytest.raises(settled.Unsettled, match=why):
        settled.Settled(rest)


def test_a_request_to_the_primary_is_not_in_the_way():
    rest = elsewhere()
    a_request_to(0)(rest)
    settled.Settled(rest)


def test_of_a_request_on_its_way_all_is_known_though_a_reply_to_it_comes_first():
    rest = elsewhere()
    client = rest.clients["client.0"]
    reply = Reply(0, "client.0", 9_999, 2, 1, result_digest(b""), b"")
    rest.env.launch(Flight(rest.env.time, reply, [client.index], [1], 2))
    a_request_to(0)(rest)
    Returning(settled.Settled(rest), rest).write(rest._m, rest._scribe, rest._book)
    assert [one.operation for one in rest._scribe.requests if one.sequence == 9_999] == [b"x"]


def proposed_twice(rest):
    """Its batch was in no block yet, and has a request of the block before."""
    leader = rest.inner(rest.nodes[0])
    slot = leader.slots[leader.next_seq - 1]
    asked = rest.chronicle.blocks[rest.chronicle.height].decided.batch.requests
    slot.batch = Batch(slot.batch.timestamp_ns, asked)


def came_late(rest):
    """Replica 2 was down when others committed what it has not."""
    late = rest.inner(rest.nodes[2]).executed + 1
    decision = rest.recorder.decisions[late]
    decision.quorum_ns, decision.all_ns, decision.live = rest.env.time, -1, 0b1011


def never_told(rest):
    """Replica 2 has answered, by a snapshot that it took over, and told nobody."""
    for client in rest.clients.values():
        rest.bus._alone[2, client.index] = Alone(Chance(1), rest.settings.wire.links, 2, client.index, False)


def gone(seq_of):
    def put(rest):
        del rest.chronicle.blocks[seq_of(rest)]

    return put


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (proposed_twice, "a request that was proposed twice"),
        (came_late, "a member that was away when others committed"),
        (never_told, "replies that were never sent"),
        (gone(lambda rest: rest.chronicle.height), "a block that is gone"),
        (change("next_seq", 1, of=0), "a primary that others are ahead of"),
        (lambda rest: rest.inner(rest.nodes[0]).slots.clear(), "a proposal that its primary does not have"),
    ],
)
def test_what_is_missing(what, why):
    rest = elsewhere(312_000_000)
    now = settled.Settled(rest)
    Returning(now, rest)
    what(rest)
    with pytest.raises(settled.Unsettled, match=why):
        Returning(now, rest)
