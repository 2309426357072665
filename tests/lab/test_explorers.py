"""The two systematic explorers: what they enumerate is all there is, they are clean, and they find what is planted."""

import json
from collections import Counter
from itertools import combinations, islice

import pytest
from msgspec.structs import replace
from tradebft.consensus.messages import Commit, NewView, Prepare, Request
from tradebft.consensus.pbft.changing import Changing
from tradebft.consensus.pbft.replica import Replica
from tradebft.lab import cli
from tradebft.lab.fuzz import small_scene, small_scope, twin_scenario, twins
from tradebft.lab.fuzz.lockstep import HOP_NS, Lockstep
from tradebft.lab.fuzz.planting import plant
from tradebft.lab.fuzz.side_by_side import worked_off
from tradebft.lab.fuzz.small_scene import Cut, Lie, Plan, Stage
from tradebft.lab.fuzz.small_steps import steps
from tradebft.lab.fuzz.twin_scenario import CONFIG, Firewall, Scenario, ScenarioError, View

EVERYBODY = (0, 1, 2, 3, 4)


@pytest.fixture
def tradebft(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


def first_broken(plans, play, most):
    """The first violation among so many scenarios, or None."""
    return next((v for plan in islice(plans, most) for v in play(plan).violations), None)


# --- the network in rounds ---


def test_one_request_takes_three_rounds_and_the_messages_of_the_formula():
    network = Lockstep(replace(CONFIG, batch_size=1), range(4), range(4))
    network.submit(0, [0])
    network.settle(100)
    assert (network.hops, network.unanswered(), network.violations) == (3, [], [])
    assert network.messages == 3 + 3 * 3 + 4 * 3  # PrePrepare, Prepares of the backups, Commits of all


def test_timers_run_out_after_their_time_and_another_view_serves():
    network = Lockstep(CONFIG, range(4), range(4))
    network.route = lambda sender, receiver, message: None if sender == 0 else message
    network.submit(0, [1, 2, 3])
    while network.unanswered():
        assert network.advance()
    assert {network.replicas[member].view for member in (1, 2, 3)} == {1}
    # The timeout, then ViewChange, NewView with the proposal, Prepare and Commit.
    assert network.now == CONFIG.view_change_timeout_ns + 4 * HOP_NS
    assert network.violations == []


def test_a_time_is_not_jumped_over():
    network = Lockstep(CONFIG, range(4), range(4))
    network.submit(0, [1])
    network.flying.clear()
    assert not network.advance(network.now + 3 * HOP_NS)
    assert network.advance(network.now + CONFIG.view_change_timeout_ns)


def test_what_a_route_changes_must_be_signed_by_whom_it_names():
    network = Lockstep(CONFIG, range(4), range(4))

    def route(sender, receiver, message):
        return replace(message, replica=3) if sender == 1 and isinstance(message, Prepare) else message

    network.route = route
    network.submit(0, [0])
    network.settle(100)
    assert network.messages == 3 + 2 * 3 + 4 * 3


def test_an_exception_is_a_violation_and_ends_the_run_of_its_replica(monkeypatch):
    def fails(self, now, vote):
        raise KeyError(vote.seq)

    monkeypatch.setattr(Replica, "_on_commit", fails)
    network = Lockstep(CONFIG, range(4), range(4))
    network.submit(0, [0])
    network.settle(100)
    assert {v.invariant for v in network.violations} == {"raised"}
    assert sorted(v.replica for v in network.violations) == [0, 1, 2, 3]


def test_an_honest_member_that_is_accused_is_a_violation(monkeypatch):
    second = Replica._second_vote
    monkeypatch.setattr(
        Replica, "_second_vote", lambda self, known, vote: second(self, vote, replace(vote, digest=b""))
    )
    network = Lockstep(CONFIG, range(4), range(4))
    twice = {0: 0}

    def route(sender, receiver, message):
        if isinstance(message, Prepare) and receiver == 2:
            twice[0] += 1
            network.flying.append((receiver, message))
        return message

    network.route = route
    network.submit(0, [0])
    network.settle(100)
    assert twice[0]
    assert "accused" in {violation.invariant for violation in network.violations}


def test_pieces_come_back_in_their_order():
    assert list(worked_off(len, ["a", "bb", ""], 1)) == [1, 2, 0]
    with pytest.raises(ValueError, match="worker"):
        list(worked_off(len, [], 0))


# --- Twins: what is enumerated ---


def all_splits(members):
    if not members:
        return [[]]
    first, rest = members[0], members[1:]
    found = []
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            left = [member for member in rest if member not in others]
            found += [[(first, *others), *groups] for groups in all_splits(left)]
    return found


@pytest.mark.parametrize("doubled", [(0,), (3,), (0, 1), (1, 3)])
def test_every_split_is_one_of_the_groupings_as_far_as_quorums_go(doubled):
    seats = (*range(4), *doubled)

    def quorums(groups):
        return frozenset(frozenset(g) for g in groups if len({seats[seat] for seat in g}) >= CONFIG.quorum)

    splits = all_splits(list(range(len(seats))))
    assert len(splits) == {5: 52, 6: 203}[len(seats)]  # Bell numbers
    groupings = twin_scenario.groupings(seats)
    assert {quorums(groups) for groups in groupings} == {quorums(groups) for groups in splits}
    assert len({quorums(groups) for groups in groupings}) == len(groupings)


@pytest.mark.parametrize(("views", "beyond_f"), [(1, False), (2, False), (1, True)])
def test_counts_are_those_of_what_is_enumerated(views, beyond_f):
    numbers = list(twins.every(views, beyond_f))
    assert len(numbers) == len(set(numbers)) == twins.how_many(views, beyond_f)


def test_of_two_scenarios_that_differ_in_names_one_is_played():
    offered = twin_scenario.choices((1,))
    rows = twins.exchanges((1,))
    assert rows[0] == tuple(range(len(offered)))
    other = rows[1][offered.index(View(((0, 1, 2), (3, 4)), Firewall("Commit", (1,))))]
    assert offered[other] == View(((0, 2, 4), (1, 3)), Firewall("Commit", (4,)))
    assert all(rows[1][rows[1][choice]] == choice for choice in range(len(offered)))


def test_draws_are_the_seeds():
    assert list(islice(twins.drawn(3, 1, False), 20)) == list(islice(twins.drawn(3, 1, False), 20))
    assert list(islice(twins.drawn(3, 1, False), 20)) != list(islice(twins.drawn(3, 2, False), 20))
    drawn = list(islice(twins.drawn(1, 1, False), twins.how_many(1)))
    assert sorted(drawn) == sorted(twins.every(1, False))


# --- Twins: what comes of it ---


def test_every_single_view_is_survived_and_things_happen_in_them():
    document = twins.explore(views=1, limit=1000)
    row = document["by_views"][0]
    assert (document["violations"], row["complete"], row["played"]) == ([], True, 344)
    assert row["decided"] > 50  # in some a quorum decides
    assert row["twins_caught"] > 50  # in some a twin is seen to contradict itself
    assert 0 < row["calm_rounds_max"] < twin_scenario.CALM_HOPS // 4
    assert row["distinct"] > 150


def test_several_views_are_survived_and_carry_over_what_was_prepared():
    document = twins.explore(views=4, limit=120, seed=3)
    rows = document["by_views"]
    assert document["violations"] == []
    assert [row["played"] for row in rows] == [30, 30, 30, 30]
    assert all(row["carried_over"] > 5 for row in rows[1:])


def test_a_commit_that_reaches_one_alone_is_carried_over():
    wall = View((EVERYBODY,), Firewall("Commit", (2,)))
    played = twin_scenario.play(Scenario((0,), (wall, View(((0, 1, 3, 4),)), View((EVERYBODY,)))))
    assert (played.violations, played.decided >= 1, played.carried) == ([], True, True)


def test_two_twins_break_agreement_and_the_file_does_it_again(tmp_path):
    document = twins.explore(views=1, limit=2000, beyond_f=True, out=tmp_path)
    assert document["by_views"][0]["complete"]
    # Where two batches were prepared at one place and not yet committed, agreement was at stake only.
    assert {entry["invariant"] for entry in document["violations"]} == {"agreement", "prepared-unique"}
    first = next(entry for entry in document["violations"] if entry["invariant"] == "agreement")
    ((scenario, expected),) = twin_scenario.load(tmp_path / first["replay"].split("/")[-1])
    assert expected in twin_scenario.play(scenario).violations
    assert expected.what == first["what"]
    assert first["described"]["num_of_twins"] == 2


@pytest.mark.parametrize(
    ("mutant", "seed"),
    [
        ("certificates-lost", 0),
        ("quorum-of-2f", 0),
        ("second-proposal-accepted", 0),
        ("null-requests-skipped", 1),  # which others' answers mostly mend
    ],
)
def test_twins_find_planted_bugs(mutant, seed):
    with plant(mutant):
        found = first_broken(
            twins.drawn(2, seed, False), lambda n: twin_scenario.play(twins.scenario_of(n)), 400
        )
    assert found is not None


def test_twins_notice_a_network_that_does_not_go_on(monkeypatch):
    monkeypatch.setattr(Changing, "on_new_view", lambda self, now, message: ())
    found = first_broken(twins.drawn(2, 0, False), lambda n: twin_scenario.play(twins.scenario_of(n)), 20)
    assert found is not None
    assert found.invariant == "liveness"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_of_nodes": 7}, "expected 4 nodes"),
        ({"round_leaders": [1]}, "round_leaders"),
        ({"round_partitions": [[[0, 1, 2], [2, 3]]]}, "at most once"),
        ({"firewall": []}, "one entry a round"),
        ({"firewall": [{"kind": "Reply", "reaches": []}]}, "Prepare or Commit"),
        ({"twins": [9]}, "twins"),
        ({"twin": [9]}, "not a Twins scenario"),
    ],
)
def test_a_scenario_file_that_cannot_be_says_why(tmp_path, change, message):
    path = tmp_path / "one.json"
    twin_scenario.save(path, Scenario((0,), (View(((0, 1, 2),)),)), None)
    assert twin_scenario.load(path) == [(Scenario((0,), (View(((0, 1, 2),)),)), None)]
    document = json.loads(path.read_text())
    for name, value in change.items():
        (document if name in document else document["scenarios"][0])[name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ScenarioError, match=message):
        twin_scenario.load(path)


# --- small scope ---


def test_the_script_goes_where_it_says():
    stage = Stage(Plan(-1, (), ()))
    network = stage.network
    decided, prepared = {}, {}

    def route(sender, receiver, message):
        if isinstance(message, NewView) and message.view not in decided:
            decided[message.view] = [len(blocks) for blocks in network.blocks]
            prepared[message.view] = {
                replica.me: [
                    seq for seq, slot in replica.slots.items() if slot.prepared and seq > replica.low
                ]
                for replica in network.replicas
            }
        return stage.route(sender, receiver, message)

    network.route = route
    stage.run()
    assert decided == {1: [2, 2, 2, 3], 2: [5, 4, 4, 4]}  # 3 by replica 3 alone, 5 by replica 0 alone
    assert prepared[1] == {0: [3], 1: [3, 4], 2: [], 3: [3]}
    assert {member for member, seqs in prepared[2].items() if 6 in seqs} == {2}
    assert [(replica.view, replica.executed) for replica in network.replicas] == [(2, 8)] * 4
    assert (network.violations, network.evidence, network.unanswered()) == ([], [], [])


def test_every_kind_of_message_is_lied_about_in_many_ways():
    kinds = Counter(lie.label.split("/")[0] for liar in range(4) for lie in small_scope.lies(liar))
    assert set(kinds) == {
        "PrePrepare", "Prepare", "Commit", "Checkpoint", "Reply",
        "ViewChange", "NewView", "Status", "Fetch", "FetchReply",
    }  # fmt: skip
    names = {lie.step for liar in range(4) for lie in small_scope.lies(liar)}
    assert len(names) > 100
    for receivers in ((0, 2, 3), (0, 2), (3,)):
        assert Lie("NewView/1/0#0", "proposal nulled", receivers) in small_scope.lies(1)
    assert len(small_scope.cuts()) == len(set(small_scope.cuts()))
    assert len({cut.groups for cut in small_scope.cuts()}) == 14  # Bell(4) without the whole


def test_a_step_changes_something_and_names_are_unique():
    stage = Stage(Plan(1, (), ()))
    seen = Counter()

    def route(sender, receiver, message):
        if sender == 1 and not isinstance(message, Request):
            offered = list(steps(message, stage.scene))
            assert len({name for name, _ in offered}) == len(offered) > 4
            for _, instead in offered:
                assert tuple(map(stage._sign, instead)) != (message,)
            seen[type(message).__name__] += len(offered)
        return stage.route(sender, receiver, message)

    stage.network.route = route
    stage.run()
    assert seen["NewView"] > 3 * 30


def test_what_is_left_out_or_said_twice_is():
    plan = Plan(1, (Lie("Commit/0/1#0", "left out", (0,)), Lie("Commit/0/2#0", "said twice", (0, 2))), ())
    stage = Stage(plan)
    heard = Counter()
    step = stage.network.step

    def counted(seat, event):
        if isinstance(event, Commit) and event.replica == 1 and event.view == 0:
            heard[event.seq, seat] += 1
        step(seat, event)

    stage.network.step = counted
    stage.run()
    assert stage.told == 3
    assert [heard[1, seat] for seat in (0, 2, 3)] == [0, 1, 1]
    assert [heard[2, seat] for seat in (0, 2, 3)] == [2, 2, 1]


def test_a_lie_is_told_to_whom_it_is_for_and_caught():
    plan = Plan(0, (Lie("PrePrepare/0/1#0", "batch later", (3,)),), ())
    played = small_scene.play(plan)
    assert (played.violations, played.told) == ([], 1)
    plan = Plan(1, (Lie("NewView/1/0#0", "proposal nulled", (0, 2, 3)),), ())
    played = small_scene.play(plan)
    assert (played.violations, played.told, played.caught) == ([], 3, True)


def test_lies_and_cuts_are_survived(tmp_path):
    document = small_scope.explore(limit=240, seed=5, out=tmp_path)
    rows = {(row["lies"], row["cuts"]): row for row in document["by_class"]}
    assert document["violations"] == []
    assert document["scenarios"] == sum(row["played"] for row in rows.values()) == 240
    assert all(row["played"] > 0 for row in rows.values())
    assert rows[1, 0]["lies_told"] == rows[1, 0]["played"]
    assert rows[1, 0]["liars_caught"] > 10
    assert rows[1, 0]["there_are"] == len(list(small_scope.every(1, 0))) > 5000


@pytest.mark.parametrize(
    ("mutant", "about", "invariant"),
    [
        ("new-view-trusted", "NewView/1/0#0", "view-change-preserves"),
        ("view-changes-counted-by-length", "NewView/1/0#0", "certificate-well-formed"),
        ("view-changes-not-authentic", "NewView/1/0#0", "certificate-well-formed"),
        ("prepared-certificate-not-verified", "NewView/1/0#0", "view-change-preserves"),
        ("duplicate-commits-counted", "Commit/2/7#0", "certificates"),
        ("request-signature-not-checked", "PrePrepare/1/5#0", "validity"),
    ],
)
def test_small_lies_find_planted_bugs(mutant, about, invariant):
    plans = [
        Plan(1, (lie,), ()) for lie in small_scope.lies(1) if lie.label == about and len(lie.receivers) == 3
    ]
    assert len(plans) > 5
    assert first_broken(plans, small_scene.play, len(plans)) is None
    with plant(mutant):
        found = first_broken(plans, small_scene.play, len(plans))
    assert found is not None
    assert found.invariant == invariant


def test_a_plan_comes_back_from_its_file(tmp_path):
    path = tmp_path / "plan.json"
    plan = Plan(2, (Lie("Commit/0/1#0", "view+1", (0,)),), (Cut(3, 1, ((0, 1), (2, 3))),))
    small_scope.save(path, plan, None)
    assert small_scope.load(path) == (plan, None)
    assert small_scope.in_words(plan) == (
        "replica 2: Commit/0/1#0 with view+1 to 0; rounds 3 to 3 cut into 0 1 | 2 3"
    )
    path.write_text(path.read_text().replace("small-scope-1", "small-scope-9"))
    with pytest.raises(ScenarioError, match="format"):
        small_scope.load(path)


def test_workers_change_nothing():
    def judged(document):
        return [
            document[key]
            for key in document
            if key not in ("wall_seconds", "scenarios_per_second", "workers")
        ]

    one, two = (twins.explore(views=2, limit=16, workers=workers) for workers in (1, 2))
    assert judged(one) == judged(two)


# --- the command ---


def test_the_command_explores_and_plays_again(tradebft):
    code, out, _ = tradebft("fuzz", "--twins", "--views", 1, "--limit", 20, "--workers", 1, "--json")
    document = json.loads(out)
    assert (code, document["scenarios"], document["violations"]) == (0, 20, [])
    assert document["wall_seconds"] > 0
    code, out, _ = tradebft("fuzz", "--small-scope", "--limit", 12, "--workers", 1)
    assert (code, "no violation" in out) == (0, True)
    arguments = ("fuzz", "--twins", "--beyond-f", "--views", 1, "--limit", 1100, "--workers", 1, "--json")
    code, out, _ = tradebft(*arguments)
    entry = json.loads(out)["violations"][0]
    assert (code, entry["invariant"]) == (0, "agreement")
    code, out, _ = tradebft(*entry["command"].split()[1:])
    assert (code, "as the file has it" in out) == (0, True)


def test_the_command_refuses_what_does_not_fit(tradebft, tmp_path):
    assert tradebft("fuzz", "--views", 2)[0] == 2
    assert tradebft("fuzz", "--small-scope", "--views", 2)[0] == 2
    assert tradebft("fuzz", "--twins", "--small-scope")[0] == 2
    assert tradebft("fuzz", "--small-scope", "--beyond-f")[0] == 2
    for name in ("--twins", "--small-scope"):
        code, _, err = tradebft("fuzz", name, "--scenario", tmp_path / "none.json")
        assert (code, "none.json" in err) == (2, True)


def test_a_file_that_breaks_otherwise_is_told(tradebft, tmp_path):
    path = tmp_path / "plan.json"
    plan = Plan(0, (Lie("Commit/0/1#0", "view+1", (1,)),), ())
    small_scope.save(path, plan, small_scope.Violation("agreement", 1, 0, "never so"))
    assert tradebft("fuzz", "--small-scope", "--scenario", path)[0] == 1
    small_scope.save(path, plan, None)
    assert tradebft("fuzz", "--small-scope", "--scenario", path)[0] == 0


def test_a_firewall_lets_through_what_it_says():
    network = Lockstep(CONFIG, (*range(4), 0), [1, 2, 3])
    arrived = Counter()

    def counted(to, message):
        arrived[type(message), to] += 1

    step = network.step
    network.step = lambda seat, event: (counted(seat, event), step(seat, event))[1]
    network.timed = False
    twin_scenario._play_view(network, 0, View((EVERYBODY,), Firewall("Commit", (2,))))
    assert {to for kind, to in arrived if kind is Commit} == {2}
    assert {to for kind, to in arrived if kind is Prepare} == set(EVERYBODY)
