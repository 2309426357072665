"""The fuzzer: what a seed draws, what a trial notices, that only the seed decides, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tradebft.consensus.interface import Config, Evidence, Ignored
from tradebft.consensus.messages import Prepare, Reply, result_digest
from tradebft.consensus.pbft.changing import Changing
from tradebft.consensus.pbft.replica import Replica
from tradebft.lab import cli
from tradebft.lab.fuzz import case as cases
from tradebft.lab.fuzz import limits, pool, shrink, story, swarm, trial
from tradebft.lab.fuzz.case import Ask, Case, Links
from tradebft.lab.fuzz.draw import SWARM, draw
from tradebft.lab.fuzz.planting import plant
from tradebft.lab.fuzz.swarm import Options, first_violation
from tradebft.lab.fuzz.trial import try_case
from tradebft.lab.fuzz.watching import Notes
from tradebft.network.faults import Fault

MS, S = 10**6, 10**9


@pytest.fixture
def tradebft(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


@pytest.fixture
def no_view_change(monkeypatch):
    """A protocol in which nobody ever suspects a primary."""
    monkeypatch.setattr(Changing, "start_view_change", lambda self, now, view: ())


@pytest.fixture
def small_quorum():
    """A protocol that is content with f+1 votes."""
    with plant("quorum-of-f-plus-1"):
        yield


def quiet_case(**changes):
    """Four members, three requests, nothing goes wrong."""
    case = msgspec.structs.replace(
        draw(0, nodes=4),
        faults=(),
        adversaries=(),
        dishonest={},
        processor=False,
        links=Links("constant", {"delay_ns": 10 * MS}),
        clients=("client.0",),
        asks=tuple(Ask(k * 100 * MS, "client.0", k) for k in range(3)),
        storm_ns=1 * S,
    )
    return msgspec.structs.replace(case, **changes)


def dead_primary(**changes):
    return quiet_case(faults=(Fault(0, None, "crash", (0,)),), **changes)


class TestDraw:
    def test_a_seed_is_one_case_and_survives_json(self):
        for seed in range(60):
            case = draw(seed)
            assert draw(seed) == case
            assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case

    def test_what_is_drawn_keeps_the_promise(self):
        for seed in range(400):
            case = draw(seed)
            config = case.config
            assert case.broken_promise() is None, seed
            assert 4 <= config.nodes <= 13
            k = config.checkpoint_interval
            assert 1 <= k <= 4
            assert k < config.log_window <= max(2 * k, 2)
            assert 30 <= len(case.asks) <= 60
            assert len(case.core) >= config.quorum

    def test_every_kind_is_on_in_some_and_off_in_others(self):
        drawn = [draw(seed) for seed in range(300)]
        for kind in ("crash", "partition", "slow", "loss"):
            share = sum(any(f.kind == kind for f in case.faults) for case in drawn) / len(drawn)
            assert 0.15 < share < 0.85, kind
        assert 0.1 < sum(bool(case.gone) for case in drawn) / len(drawn) < 0.6
        assert any(not case.faults and not case.adversaries for case in drawn)
        power_cuts = [c for c in drawn if sum(f.kind == "crash" for f in c.faults) >= c.config.nodes]
        assert power_cuts
        assert 0.1 < sum(bool(case.changes) for case in drawn) / len(drawn) < 0.4
        assert 0.1 < sum(case.application == "ledger" for case in drawn) / len(drawn) < 0.4
        assert set(SWARM) >= {"crash", "power cut", "partition", "slow", "loss", "gone", "adversaries"}

    def test_the_range_of_members_is_kept(self):
        assert {draw(seed, nodes=7).config.nodes for seed in range(20)} == {7}
        assert {draw(seed, nodes=range(4, 6)).config.nodes for seed in range(40)} == {4, 5}
        with pytest.raises(ValueError, match="at least 4 members"):
            draw(0, nodes=3)

    def test_a_broken_promise_is_told(self):
        assert (
            "tolerated"
            in quiet_case(faults=tuple(Fault(0, None, "crash", (node,)) for node in (0, 1))).broken_promise()
        )
        assert "beyond the storm" in quiet_case(faults=(Fault(0, 2 * S, "crash", (0,)),)).broken_promise()
        assert "not" in quiet_case(faults=(Fault(0, 1 * S, "crash", (4,)),)).broken_promise()


class TestTrial:
    def test_a_trial_is_the_same_again_and_watched_or_not(self):
        for seed in (1, 2, 10):
            case, notes = draw(seed), Notes()
            outcome = try_case(case)
            assert try_case(case) == outcome
            assert try_case(case, notes) == outcome
            assert notes.sent

    def test_a_trial_is_the_same_in_another_process(self):
        program = (
            "from tradebft.lab.fuzz.swarm import Options; from tradebft.lab.fuzz.trial import try_case\n"
            "print(*(try_case(Options().case(seed)).digest for seed in (3, 4, 5)))"
        )
        told = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": hashes},
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            ).stdout.split()[-1]
            for hashes in ("1", "2")
        }
        assert told == {try_case(draw(5)).digest}

    def test_nothing_is_wrong_where_nothing_goes_wrong(self):
        outcome = try_case(quiet_case())
        assert outcome.violations == []
        assert outcome.virtual_ns < 3 * S  # a trial that has settled is over
        assert outcome.coverage["answers"] == outcome.coverage["requests"] >= 5

    def test_the_storm_reaches_what_it_is_for(self):
        outcomes = [try_case(draw(seed)) for seed in range(12)]
        reached = swarm._reached(outcome.coverage for outcome in outcomes)
        for what in ("view changes", "restarts", "state transfers", "stable checkpoints"):
            assert reached.get(what, 0) >= 2, what

    def test_a_dead_primary_is_replaced_and_without_view_changes_found(self, no_view_change):
        outcome = try_case(dead_primary())
        assert outcome.first.invariant == "liveness"
        assert "requests unanswered; executed by 1: 0 in view 0, 2: 0" in outcome.first.what

    def test_a_dead_primary_is_replaced(self):
        outcome = try_case(dead_primary())
        assert outcome.violations == []
        assert outcome.coverage["views"] == 1

    def test_an_exception_is_a_violation_with_its_member(self, monkeypatch):
        real = Replica._on_prepare

        def broken(self, now, vote):
            if self.me == 2 and vote.seq == 2:
                raise KeyError("a slot that is gone")
            return real(self, now, vote)

        monkeypatch.setattr(Replica, "_on_prepare", broken)
        first = try_case(quiet_case()).first
        assert (first.invariant, first.replica) == ("raised", 2)
        assert "KeyError: 'a slot that is gone' (in broken:" in first.what
        assert "/" not in first.what  # no path of one machine

    def test_an_honest_member_that_is_accused_is_a_violation(self, monkeypatch):
        real = Replica._on_commit

        def accusing(self, now, vote):
            if self.me == 1 and vote.seq == 2:
                return (Evidence(vote.replica, "looked at me"),)
            return real(self, now, vote)

        monkeypatch.setattr(Replica, "_on_commit", accusing)
        first = try_case(quiet_case()).first
        assert (first.invariant, first.replica) == ("accused", 1)

    def test_a_wrong_answer_is_a_violation(self, monkeypatch):
        real = Replica._reply

        def lying(self, request, seq, digest, result):
            return (
                real(self, request, seq, result_digest(b"no"), b"no")
                if seq == 2
                else real(self, request, seq, digest, result)
            )

        monkeypatch.setattr(Replica, "_reply", lying)
        first = try_case(quiet_case()).first
        assert first.invariant == "answers"
        assert "client.0's request 2 was answered" in first.what

    def test_a_member_that_stays_behind_is_a_violation(self, monkeypatch):
        real = Replica.step

        def deaf(self, now, event):
            return (
                (Ignored("deaf"),)
                if self.me == 3 and not isinstance(event, Reply)
                else real(self, now, event)
            )

        monkeypatch.setattr(Replica, "step", deaf)
        first = try_case(quiet_case()).first
        assert first.invariant == "convergence"
        assert "3: 0 in view 0" in first.what

    def test_a_storm_that_feeds_itself_is_cut_short(self, monkeypatch):
        monkeypatch.setattr(trial, "MESSAGES_MAX", 100)
        assert try_case(quiet_case()).first.invariant == "runaway"

    def test_a_log_that_is_too_long_is_a_violation(self, monkeypatch):
        replica = try_and_keep_a_replica()
        assert list(limits.exceeded(replica, replica.config, 4)) == []
        low = replica.low
        for seq in range(low + 1, low + 2 * replica.config.log_window):
            replica.slot(seq)
        assert {name for name, _ in limits.exceeded(replica, replica.config, 4)} == {
            "bounded-log",
            "watermarks",
        }


def try_and_keep_a_replica():
    kept = []
    try_case(quiet_case(), kept.append)
    return kept[0].nodes[1].replica


class TestSwarm:
    def test_workers_do_not_matter(self):
        wall = ("wall_seconds", "seeds_per_minute", "workers")
        documents = []
        for workers in (1, 3):
            report = swarm.swarm(range(9), Options(nodes=(4, 7)), workers)
            assert report.complete
            documents.append({k: v for k, v in report.document().items() if k not in wall})
        assert documents[0] == documents[1]
        assert documents[0]["seeds"] == 9
        assert (documents[0]["first_seed"], documents[0]["last_seed"]) == (0, 8)
        assert documents[0]["messages"] == sum(documents[0]["messages_by_kind"].values())
        assert sum(documents[0]["clusters"].values()) == 9
        for entry in ("faults_injected", "coverage", "virtual_seconds", "evidence", "refusals", "digest"):
            assert entry in documents[0]

    def test_a_worker_that_is_killed_costs_nothing_but_time(self):
        with pool.Pool(2, Options(nodes=(4, 4))) as workers:
            answers = {}
            for seed, answer in workers.run(iter(range(8))):
                if not answers:
                    workers._workers[0].process.kill()
                answers[seed] = answer
        assert sorted(answers) == list(range(8))
        assert answers[5].digest == try_case(draw(5, nodes=4)).digest

    def test_a_seed_that_kills_its_worker_twice_is_lost(self):
        with pool.Pool(1, Options(nodes=(4, 4))) as workers:
            real = pool.Worker.take

            def deadly(worker, seed):
                if seed == 1:
                    worker.process.kill()
                    worker.process.wait()
                real(worker, seed)

            pool.Worker.take = deadly
            try:
                answers = dict(workers.run(iter(range(3))))
            finally:
                pool.Worker.take = real
        assert answers[1] == "its worker died"
        assert answers[2].violations == []

    def test_time_runs_out(self):
        begun = time.monotonic()
        report = swarm.swarm(None, Options(nodes=(4, 4)), 1, minutes=5 / 60)
        assert len(report.outcomes) > 1
        assert time.monotonic() - begun < 20
        assert sorted(report.outcomes) == list(range(len(report.outcomes)))

    def test_the_first_violation(self, no_view_change):
        seeds = range(40)
        outcome = first_violation(seeds, Options(nodes=(4, 4)))
        assert outcome.first.invariant in ("liveness", "convergence")
        assert first_violation(range(outcome.seed), Options(nodes=(4, 4))) is None
        assert first_violation(seeds, Options(nodes=(4, 4)), seconds=0) in (None, outcome)


@pytest.fixture
def in_process(monkeypatch):
    """The swarm without processes, so that a bug planted here is in force."""

    def run(seeds, options, workers, minutes=None, progress=None):
        report = swarm.Report(options, workers)
        for seed in seeds:
            report.outcomes[seed] = try_case(options.case(seed))
        report.wall_seconds = 1.0
        return report

    monkeypatch.setattr(swarm, "swarm", run)


class TestShrink:
    def test_what_does_not_matter_goes(self, no_view_change):
        drawn = next(c for c in map(draw, range(100)) if c.config.nodes > 5 and c.faults and c.dishonest)
        dead = Fault(0, None, "crash", (0,))
        case = msgspec.structs.replace(drawn, adversaries=(), faults=(*drawn.faults, dead))
        small = shrink.shrink(case, try_case(case).first.invariant, 300)
        assert small.trials <= 300
        assert small.case.config.nodes == 4
        assert len(small.case.asks) <= 2
        assert len(small.case.faults) <= 2
        assert small.case.broken_promise() is None
        assert try_case(small.case).first.invariant == try_case(case).first.invariant

    def test_a_case_with_changes_of_members_shrinks_too(self, no_view_change):
        drawn = next(c for c in map(draw, range(100)) if len(c.changes) > 1 and c.config.nodes > 4)
        dead = Fault(0, None, "crash", (0,))
        case = msgspec.structs.replace(drawn, adversaries=(), faults=(dead,))
        small = shrink.shrink(case, try_case(case).first.invariant, 100)
        assert (small.case.changes, small.case.spare, small.case.config.nodes) == ((), 0, 4)

    def test_a_one_way_cut_without_a_side_goes(self):
        case = quiet_case(config=Config(7), faults=(Fault(0, 1 * S, "one-way", groups=((0, 1), (5, 6))),))
        assert shrink.shrink(case, "agreement", 20).case == case  # nothing breaks, and nothing is raised
        assert shrink._cut_off(case, 4).faults == ()
        assert shrink._folded(case, 4).faults[0].groups == ((0, 1), (2,))

    def test_no_more_trials_than_allowed(self, no_view_change):
        case = dead_primary()
        assert shrink.shrink(case, "liveness", 3).trials == 3
        assert shrink.shrink(case, "agreement", 50).case == case

    def test_the_story_of_a_case(self, no_view_change, tmp_path):
        left = story.leave(dead_primary(), tmp_path / "small")
        text = Path(left["transcript"]).read_text()
        assert text.startswith("liveness at ")
        assert "from 0 ms for ever: crash of 0" in text
        assert "client.0 -> 0  Request client.0 1  (0 +10.0)" in text
        assert "!!! liveness" in text
        assert Path(left["picture"]).read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "small.svg").read_text()
        assert cases.load(Path(left["replay"])).case == dead_primary()


class TestCommands:
    def test_a_clean_swarm(self, tradebft):
        code, out, err = tradebft("fuzz", "--seeds", "0..5", "--nodes", "4..5", "--workers", 1, "--json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert (document["seeds"], document["violations"], document["complete"]) == (6, [], True)
        assert not Path("results").exists()

    def test_what_a_person_reads(self, tradebft, in_process):
        code, out, _ = tradebft("fuzz", "--seeds", "3", "--nodes", "4")
        assert code == 0
        assert "1 seeds, 4 to 4 members" in out
        assert "no violation" in out

    def test_a_violation_leaves_a_file_that_replays(self, tradebft, in_process, small_quorum):
        code, out, _ = tradebft("fuzz", "--seeds", "0..2", "--nodes", "4..7", "--json", "--out", "here")
        assert code == 1
        entry = json.loads(out)["violations"][0]
        assert {"seed", "invariant", "at_ns", "replica", "what", "replay", "command"} <= set(entry)
        assert entry["command"] == f"tradebft replay {entry['replay']}"
        for name in ("replay", "transcript", "picture"):
            assert Path(entry["shrunk"][name]).is_file()
        for file in (entry["replay"], entry["shrunk"]["replay"]):
            code, out, err = tradebft("replay", file)
            assert (code, err) == (0, "")
            assert "reproduced exactly" in out
        code, out, _ = tradebft("replay", entry["replay"], "--json")
        assert (code, json.loads(out)["reproduced"]) == (0, True)

    def test_a_violation_is_told(self, tradebft, in_process, small_quorum):
        code, out, _ = tradebft("fuzz", "--seeds", "0..2", "--nodes", "4", "--shrink", 0)
        assert code == 1
        assert "VIOLATED in" in out
        assert "  tradebft replay results/fuzz/seed-" in out

    def test_a_replay_that_finds_something_else(self, tradebft, tmp_path):
        cases.save(tmp_path / "case.json", quiet_case(), None, "0" * 32)
        code, out, _ = tradebft("replay", "case.json")
        assert code == 1
        assert "expected 00000000" in out

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "tradebft-replay-1"}', "\x00"])
    def test_a_bad_file_is_one_line(self, tradebft, text):
        Path("bad.json").write_text(text)
        code, out, err = tradebft("replay", "bad.json")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("bad.json: not a replay file: ")

    def test_a_file_that_is_none(self, tradebft):
        assert tradebft("replay", "none.json") == (2, "", "none.json: No such file or directory\n")

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--seeds", "5..3"], "expected 0 <= A <= B"),
            (["--seeds", "x"], "expected A..B, such as 0..2000"),
            (["--nodes", "3..7"], "expected 4 <= A <= B"),
            (["--workers", "0"], "is not in the range"),
        ],
    )
    def test_bad_options_are_one_line(self, tradebft, arguments, line):
        code, out, err = tradebft("fuzz", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert line in err

    def test_ctrl_c_leaves_what_there_is(self, tmp_path):
        command = [sys.executable, "-c", "from tradebft.lab.cli import main; main()"]
        begun = subprocess.Popen(
            [*command, "fuzz", "--seeds", "0..100000", "--nodes", "4", "--workers", "2", "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        begun.send_signal(signal.SIGINT)
        out, err = begun.communicate(timeout=60)
        assert begun.returncode == 130
        document = json.loads(out)
        assert document["complete"] is False
        assert err == f"interrupted after {document['seeds']} seeds\n"


def test_prepares_are_still_called_that():
    """The bugs planted above patch these; a renamed method would make them harmless."""
    assert Replica._on_prepare.__annotations__["vote"] == Prepare.__name__
