"""The command: what it prints where, with which exit code, and what it leaves on the disk."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tradebft.lab import cli, reference, results
from tradebft.scenarios import schema

SCENARIO = """\
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }
[workload]
kind = "synthetic"
"""


def distribution(p50):
    return {
        "count": 9,
        "mean": p50,
        "std": 1.0,
        "p10": p50,
        "p50": p50,
        "p90": 2 * p50,
        "p99": 3 * p50,
        "max": 4 * p50,
    }


NONE = {
    "count": 0,
    "mean": None,
    "std": None,
    "p10": None,
    "p50": None,
    "p90": None,
    "p99": None,
    "max": None,
}


def arm(days):
    return {
        "applications": 10,
        "honest": 10,
        "unfinished": 0,
        "new_customer_days": distribution(days),
        "existing_customer_days": NONE,
        "within_7_days": 0.9,
        "ledger_ms": distribution(80.0),
    }


class FakeRun:
    """Stands in for a run of the simulator: the command only reads these attributes."""

    def __init__(self, scenario, complete=True, failed=()):
        self.document = {
            "scenario": scenario.name,
            "title": scenario.title,
            "seed": scenario.seed,
            "complete": complete,
            "protocol": "pbft",
            "nodes": 4,
            "quorum": 3,
            "faults_tolerated": 1,
            "bus": "simulated",
            "virtual_seconds": 3600.0,
            "consensus": {
                "transactions": 1000,
                "decided_batches": 100,
                "messages": {"total": 2400},
                "view_changes": 0,
                "decision_ms": distribution(30.0),
                "client_ms": NONE,
            },
            "throughput": {"committed_per_second": 12.5},
            "processes": {
                "paper": arm(20.0),
                "chain": arm(5.0),
                "database": {"applications": 0, "honest": 0, "unfinished": 0},
                "sensitivity": {
                    "paper": {
                        "low": {"existing_customer_days": 11.0},
                        "high": {"existing_customer_days": 19.0},
                    }
                },
            },
            "fraud": {
                "F1": {"injected": 4, "caught": 4, "missed": 0, "in_scope": True},
                "F17": {"injected": 2, "caught": 0, "missed": 2, "in_scope": False},
            },
            "false_alarms": 0,
            "invariants": {"checked": ["agreement"], "violations": []},
        }
        self.failed = list(failed)
        self.applications = pl.DataFrame(
            {
                "arm": ["paper", "paper", "chain"],
                "kind": ["F1", "", "F1"],
                "outcome": ["disbursed", "disbursed", "rejected"],
            }
        )

    def save(self, directory, progress=None):
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(results.dumps(self.document))
        return folder


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A working folder with a scenario, and a simulator that answers at once. Attributes steer what it does."""

    class Lab:
        complete, failed, error = True, (), None

        def run(self, scenario, *, seed=None, set=None, out=None, progress=None, **bus):
            self.calls.append({"scenario": scenario, "seed": seed, "set": set})
            progress("simulating", 1, 2)
            if self.error:
                raise self.error
            return FakeRun(schema.load(scenario, set, seed), self.complete, self.failed)

    lab = Lab()
    lab.calls = []
    monkeypatch.setattr(sys.modules["tradebft.lab.run"], "run", lab.run)  # `tradebft.lab.run` is the function
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SCENARIO)
    return lab


@pytest.fixture
def tradebft(capfd):
    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


class TestRun:
    def test_it_prints_the_comparison_and_where_the_report_is(self, lab, tradebft):
        code, out, err = tradebft("run", "mine.toml")
        assert (code, err) == (0, "")
        assert "report: results/mine-seed1-1/report.html" in out
        for words in (
            "Paper",
            "20.0 / 40.0 d",
            "Consortium chain",
            "5.0 / 10.0 d",
            "90%",
            "1 of 1",
            "0 of 1",
            "1,000 transactions in 100 batches",
            "4 of 4 in the ledger's scope caught, 2 outside its scope missed; 0 false alarms",
            "existing customers wait 11.0 to 19.0 days",
            "invariants: 1 checked, none violated",
        ):
            assert words in out
        assert "Central database" not in out

    def test_folders_are_numbered_and_never_overwritten(self, lab, tradebft):
        Path("results/mine-seed1-1").mkdir(parents=True)
        Path("results/mine-seed1-1/precious").write_text("x")
        assert "mine-seed1-2/" in tradebft("run", "mine.toml")[1]
        assert "mine-seed1-3/" in tradebft("run", "mine.toml")[1]
        assert os.listdir("results/mine-seed1-1") == ["precious"]

    def test_json_is_one_document_and_writes_a_folder_only_where_told(self, lab, tradebft):
        code, out, err = tradebft("run", "mine.toml", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["scenario"] == "mine"
        assert not Path("results").exists()
        code, out, _ = tradebft("run", "mine.toml", "--json", "--out", "here")
        assert json.loads(out) == json.loads(Path("here/result.json").read_text())

    def test_settings_and_seed_reach_the_run(self, lab, tradebft):
        assert (
            tradebft(
                "run", "mine.toml", "--seed", 7, "--set", "consensus.batch_size=10", "--set", "title=a=b"
            )[0]
            == 0
        )
        assert lab.calls == [
            {"scenario": "mine.toml", "seed": 7, "set": {"consensus.batch_size": "10", "title": "a=b"}}
        ]
        assert Path("results/mine-seed7-1/result.json").is_file()

    def test_quiet_prints_nothing_but_what_failed(self, lab, tradebft):
        assert tradebft("run", "mine.toml", "--quiet") == (0, "", "")
        lab.failed = ["expected consensus.client_ms.p99 < 400, measured 412.5"]
        assert tradebft("run", "mine.toml", "--quiet") == (
            1,
            "",
            "mine: expected consensus.client_ms.p99 < 400, measured 412.5\n",
        )

    def test_a_failed_expectation_leaves_stdout_one_document(self, lab, tradebft):
        lab.failed = ["expected a < 4, measured 5"]
        code, out, err = tradebft("run", "mine.toml", "--json")
        assert (code, err) == (1, "mine: expected a < 4, measured 5\n")
        assert json.loads(out)["complete"] is True

    def test_few_nodes_are_remarked_on_stderr(self, lab, tradebft):
        code, out, err = tradebft("run", "mine.toml", "--set", "network.nodes=3", "--json")
        assert code == 0
        assert json.loads(out)
        assert err == "warning: 3 nodes tolerate no fault: f = 0 below 4 nodes\n"

    def test_ctrl_c_with_something_to_show(self, lab, tradebft):
        lab.complete, lab.failed = False, ["never judged"]
        code, out, err = tradebft("run", "mine.toml")
        assert code == 130
        assert "report: results/mine-seed1-1/report.html" in out
        assert err == "interrupted before the end; what there is, is in results/mine-seed1-1\n"
        assert json.loads(Path("results/mine-seed1-1/result.json").read_text())["complete"] is False

    def test_ctrl_c_with_nothing_to_show_leaves_nothing(self, lab, tradebft):
        lab.error = KeyboardInterrupt()
        code, out, err = tradebft("run", "mine.toml")
        assert (code, out) == (130, "")
        assert err.strip() == "interrupted; nothing was written"
        assert not Path("results").exists()

    @pytest.mark.parametrize(
        "trouble", [KeyboardInterrupt(), results.ResultsError("cannot write x: No space left on device")]
    )
    def test_trouble_while_writing_leaves_nothing(self, lab, tradebft, monkeypatch, trouble):
        def save(self, directory, progress=None):
            raise trouble

        monkeypatch.setattr(FakeRun, "save", save)
        code, out, err = tradebft("run", "mine.toml")
        assert (code, out) == (130 if isinstance(trouble, KeyboardInterrupt) else 2, "")
        assert err.strip() in ("interrupted; nothing was written", "cannot write x: No space left on device")
        assert os.listdir("results") == []

    def test_an_unusable_folder_is_refused_before_the_work(self, lab, tradebft):
        Path("file").write_text("x")
        code, _, err = tradebft("run", "mine.toml", "--out", "file/below")
        assert code == 2
        assert "file" in err
        assert err.count("\n") == 1
        assert lab.calls == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["run", "guizu"], "guizu: no built-in scenario or file of that name; did you mean 'guizhou'?"),
            (["run", "none.toml"], "none.toml: no such file"),
            (["run", "."], ".: expected a scenario file; found a directory"),
            (
                ["run", "mine.toml", "--set", "network.nodes=0"],
                "--set network.nodes: network.nodes: expected at least 1; found 0",
            ),
            (["run", "mine.toml", "--set", "x"], "tradebft: --set x: expected KEY=VALUE"),
            (["run", "mine.toml", "--set", "=3"], "tradebft: --set =3: expected KEY=VALUE"),
            (
                ["run", "mine.toml", "--seed", "x"],
                "tradebft: invalid value for '--seed': 'x' is not a valid whole number",
            ),
            (
                ["run", "mine.toml", "--seed", "-1"],
                "tradebft: invalid value for '--seed': -1 is not in the range",
            ),
            (["run", "mine.toml", "--sed", "1"], "tradebft: no such option '--sed'; did you mean '--seed'?"),
            (["run"], "tradebft: missing argument 'SCENARIO'"),
            (["rnu", "guizhou"], "tradebft: no such command 'rnu'; did you mean 'run'?"),
            (
                ["docs"],
                "tradebft: no such command 'docs'; expected one of bench, calibrate, check, check-proof, client,"
                " fuzz, gate, keys, network, node, replay, report, run, scenarios, sweep, tune, validate, verify",
            ),
            (["scenarios", "shw"], "tradebft: no such command 'shw'; did you mean 'show'?"),
            (
                ["scenarios", "show", "guizhu"],
                "tradebft: guizhu: no built-in scenario of that name; did you mean 'guizhou'?",
            ),
            (["report", "."], "no result.json here"),
            (["check", "none.toml"], "none.toml: no such file"),
            (
                ["bench", "engine", "--nodes", "0"],
                "tradebft: invalid value for '--nodes': 0 is not in the range",
            ),
        ],
    )
    def test_one_line_and_exit_2(self, lab, tradebft, arguments, line):
        code, out, err = tradebft(*arguments)
        assert (code, out) == (2, "")
        assert line in err
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert "Usage" not in err

    def test_the_file_is_named_as_it_was_given(self, lab, tradebft):
        Path("mine.toml").write_text(SCENARIO + "\n[consensus]\nbatch_sise = 3\n")
        code, _, err = tradebft("check", "mine.toml")
        assert code == 2
        assert err.startswith(
            "mine.toml:8: consensus.batch_sise: unknown key; expected one of protocol, batch_size,"
        )
        assert err.endswith("did you mean 'batch_size'?\n")


class TestOtherCommands:
    def test_check(self, lab, tradebft):
        assert tradebft("check", "mine.toml") == (0, "mine.toml: ok: synthetic, 4 nodes\n", "")
        assert tradebft("check", "partition")[1] == "partition: ok: trade-finance, 7 nodes, 1 fault(s)\n"

    @pytest.mark.parametrize("arguments", [["scenarios"], ["scenarios", "list"]])
    def test_the_list_shows_names_and_questions(self, tradebft, arguments):
        code, out, _ = tradebft(*arguments)
        assert code == 0
        assert "primary-crash" in out
        assert "strain a chain of sixteen validators?" in " ".join(out.split())

    def test_show_prints_the_file(self, tradebft):
        code, out, _ = tradebft("scenarios", "show", "guizhou")
        assert code == 0
        assert out == (Path(schema.__file__).parent / "guizhou.toml").read_text()

    def test_bench_prints_one_document(self, tradebft, monkeypatch):
        measured = {"messages_per_second": 1234.5, "wall_seconds": 2.0, "peak_memory_mb": 80.0}
        fake = type(sys)("bench")
        fake.engine = lambda nodes, batches, engine: {**measured, "nodes": nodes, "batches": batches}
        monkeypatch.setitem(sys.modules, "tradebft.lab.bench", fake)
        monkeypatch.setattr(sys.modules["tradebft.lab"], "bench", fake, raising=False)
        code, out, err = tradebft("bench", "engine", "--nodes", 4, "--batches", 2, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == {**measured, "nodes": 4, "batches": 2}
        assert "1,234.5" in tradebft("bench", "engine")[1]

    def test_version_and_help(self, tradebft):
        assert tradebft("--version")[1].startswith("tradebft, version ")
        code, out, _ = tradebft()
        assert code == 0
        assert "run" in out
        assert "docs-reference" not in out


SLOW = """
import sys, time
from tradebft.lab import cli, run
def slow(*arguments, **settings):
    print("running", file=sys.stderr, flush=True)
    for _ in range(3000):  # a signal that comes just before one long sleep would be noticed after it
        time.sleep(0.01)
sys.modules["tradebft.lab.run"].run = slow
sys.argv = ["tradebft", "run", "guizhou"]
cli.main()
"""


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_a_real_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path, ended_by):
    started = subprocess.Popen([sys.executable, "-c", SLOW], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    assert started.stderr.readline() == "running\n"
    started.send_signal(ended_by)
    _, err = started.communicate(timeout=20)
    assert (started.returncode, err.strip()) == (130, "interrupted; nothing was written")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        program = "from tradebft.lab.cli import main; main(['scenarios', 'show', 'guizhou'])"
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == "tradebft: cannot write the output: No space left on device\n"


def test_a_closed_stdout_is_no_error():
    program = "from tradebft.lab.cli import main; main(['scenarios', 'show', 'guizhou'])"
    closed = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, program]
    done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("tradebft.lab.cli", {"matplotlib", "simpy", "networkx", "scipy"}),  # help
        ("tradebft.scenarios.run", {"matplotlib", "networkx", "scipy", "aiomqtt"}),  # a simulated run
    ],
)
def test_a_command_is_quick_since_nothing_is_imported_that_it_does_not_need(module, heavy):
    program = f"import sys, {module}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not heavy & loaded


ENDING = """
import gc, sys
from tradebft.lab import cli
from tradebft.network import virtual_time
collections, seldom = [], virtual_time.collect_seldom
def from_now_on():
    collections.clear()
    seldom()
virtual_time.collect_seldom = from_now_on
gc.callbacks.append(lambda phase, info: collections.append(gc.get_threshold()))
sys.argv = ["tradebft", "run", "guizhou-pilot", "--json", "--quiet"]
try:
    cli.main()
finally:
    print([each for each in collections if each[0] < 100_000], gc.get_threshold()[0], file=sys.stderr)
"""


def test_nobody_looks_for_cycles_among_what_a_run_left_behind():
    """A year leaves millions of objects, and to look through them takes seconds; the process ends anyway."""
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert done.stderr.split("\n")[0] == f"[] {gc.get_threshold()[0]}"
    assert json.loads(done.stdout)["complete"]


def test_the_reference_page_is_the_one_the_schema_gives():
    page = Path(schema.__file__).parent.parent / "docs" / "scenarios.md"
    assert page.read_text() == reference.scenarios_page(), "run: tradebft docs-reference > docs/scenarios.md"
