"""One behaviour, several engines: on everything that an engine covers, it leaves what the reference leaves.

Scenarios are drawn: members, links, load, batching, pipelining, checkpoints, snapshots, bandwidth, processors, windows.
A few hundred more are marked slow (``pytest -m slow tests/network/test_engines.py``).
"""

import gc
import signal
from contextlib import contextmanager

import pytest
from drawn_scenarios import SLOW_CPU, calm, drawn, led, rough, ties, wild
from tradebft.consensus.interface import Config
from tradebft.consensus.pbft.changing import Changing
from tradebft.lab import metrics
from tradebft.lab.engine_option import ENGINES as OFFERED
from tradebft.network import engines
from tradebft.network.chance import Chance
from tradebft.network.cluster import Settings, Timeline
from tradebft.network.faults import Fault
from tradebft.network.links import Constant, Normal
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh, Star
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import Scenario, load

compiled_kernel = pytest.importorskip("tradebft.network.compiled.kernel")
memory = pytest.importorskip("tradebft.network.compiled.memory")
CompiledCluster = pytest.importorskip("tradebft.network.compiled.cluster").CompiledCluster
compiled_rules = pytest.importorskip("tradebft.network.compiled.rules")

FAST = ("wavefront", "compiled")
DIFFERS = {"wall_seconds", "engine", "invariants"}  # the reference checks more


def repeating(**changes) -> Scenario:
    """A client that repeats requests that are with a slow primary still, and some that it has answered."""
    given = {
        "network": {
            "nodes": 7,
            "links": {"model": "uniform", "low": "1 ms", "high": "9 ms"},
            "bandwidth": "100 Mbit/s",
        },
        "nodes": {"cpu": SLOW_CPU},
        "consensus": {"batch_size": 1, "window": 2, "view_change_timeout": "20 s", "client_timeout": "40 s"},
        "workload": {"kind": "synthetic", "transactions": 300, "clients": 3, "outstanding": 10},
    }
    return Scenario.model_validate(given | changes)


def silent(*_):
    pass


def differences(scenario, engine):
    """What *engine* and the reference leave that is not the same, by name."""
    ours, theirs = execute(scenario, silent, engine=engine), execute(scenario, silent)
    found, expected = metrics.document(ours), metrics.document(theirs)
    names = [key for key in expected if key not in DIFFERS and found[key] != expected[key]]
    for table in ("requests", "decisions", "applications", "stages"):
        if not getattr(ours, table).equals(getattr(theirs, table)):
            names.append(table)
    if ours.violations != theirs.violations:
        names.append("violations")
    if sorted(ours.round.rows()) != sorted(theirs.round.rows()):
        names.append("round")
    return names


@contextmanager
def within(seconds):
    """`TimeoutError` after so many; 0: whenever it is done."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def compare(engine, numbers, made, seconds=0):
    """How many of those scenarios *engine* covers; on each it must do what the reference does. One that takes more than
    so many *seconds* (views change for hours) is left out."""
    covered = 0
    for number in numbers:
        scenario = made(number)
        try:
            with within(seconds):
                names = differences(scenario, engine)
        except TimeoutError:
            print(f"{made.__name__} {number} is left out: it takes more than {seconds} s")
            continue
        except ScenarioError as why:
            if "does not cover" not in str(why):
                raise
            continue
        assert names == [], (number, names)
        covered += 1
    return covered


# Of scenarios drawn for it, each engine covers most; of ties waves cover some.
@pytest.mark.parametrize(
    ("engine", "made", "most"),
    [
        ("wavefront", calm, 22),
        ("wavefront", ties, 10),
        ("compiled", drawn, 40),
        ("compiled", rough, 40),
        ("compiled", wild, 40),
        ("compiled", ties, 40),
    ],
)
def test_drawn_scenarios_leave_the_same(engine, made, most):
    assert compare(engine, range(40), made) >= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "made", "count"),
    [
        ("wavefront", calm, 800),
        ("wavefront", ties, 2000),
        ("compiled", drawn, 550),
        ("compiled", rough, 550),
        ("compiled", wild, 550),
        ("compiled", led, 550),
        ("compiled", ties, 550),
    ],
)
def test_five_hundred_drawn_scenarios_leave_the_same(engine, made, count):
    covered = compare(engine, range(1000, 1000 + count), made, seconds=15)
    print(f"{engine}: {covered} of {count} {made.__name__} covered")
    assert covered >= 500


@pytest.mark.parametrize("name", ["guizhou-pilot", "crashed-members", "lossy-network", "primary-crash"])
def test_built_in_scenarios_leave_the_same(name):
    scenario = load(name, {"days": 5} if name == "guizhou-pilot" else {}, 3)
    assert differences(scenario, "compiled") == []


def test_requests_that_clients_repeat_are_handled_alike():
    burst = {
        "kind": "synthetic",
        "transactions": 100,
        "clients": 3,
        "arrival": "open",
        "rate": 500,
        "payload_bytes": 1000,
    }
    config = {"batch_size": 600, "window": 64, "view_change_timeout": "3 s", "client_timeout": "40 s"}
    still = {"nodes": 13, "links": {"model": "constant", "delay": "0 ms"}, "bandwidth": "100 Mbit/s"}
    whys = set()
    for scenario in (repeating(), repeating(network=still, consensus=config, workload=burst)):
        assert differences(scenario, "compiled") == []
        whys |= set(execute(scenario, silent, engine="compiled").ignored)
    assert any(why.startswith("request in execution") for why in whys), whys
    assert "request known or no room for it" in whys


def test_the_picture_of_a_round_ends_with_the_last_reply_that_was_due():
    """A reply was sent twice, so that one member votes for the checkpoint before the round is over and one after it."""
    scenario = ties(860012)
    assert differences(scenario, "compiled") == []
    told = execute(scenario, silent, engine="compiled").round
    assert [row[1] for row in told.rows() if row[0] == "Checkpoint"] == ["replica.0"]


def test_a_rule_that_is_broken_is_found(monkeypatch):
    """The comparison can fail: one message that takes a nanosecond more."""
    from tradebft.network.delays import RepliesAhead

    honest = RepliesAhead.next
    monkeypatch.setattr(RepliesAhead, "next", lambda self: honest(self) + 1)
    assert "trace_digest" in differences(drawn(1), "compiled")


# --- which engine ---


def settings(**changes):
    given = {
        "config": Config(4),
        "wire": Wire(Normal(5_000_000, 1_000_000), Mesh(4), None, 0.0),
        "seed": 1,
        "clients": ["client.0"],
        "client_timeout_ns": 10**10,
    }
    return Settings(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": Config(1)}, "1 nodes"),
        ({"protocol": lambda *_: None}, "a protocol of one's own"),
        ({"wire": Wire(Constant(1), Star(4, 1), None, 0.0)}, "messages by way of others"),
        (
            {"config": Config(200), "faults": (Fault(0, 10**9, "crash", (1,)),)},
            "faults other than backups that crash for good, members parted or slow, and loss",
        ),
        ({"config": Config(200), "faults": (Fault(0, None, "crash", (0,)),)}, "faults other than backups"),
        (
            {"config": Config(200), "byzantine": [Misbehaviour(0, "silent")]},
            "adversaries other than silent members",
        ),
        ({"byzantine": [Misbehaviour(1, "equivocate")]}, "adversaries other than silent members"),
        ({"dishonest_clients": {"client.0": "repeat"}}, "adversaries"),
        ({"clients": [f"client.{k}" for k in range(20_000)]}, "20000 clients"),
        ({"spare": 1}, "changes of members"),
        ({"apart": True}, "an execution for each replica"),
    ],
)
def test_what_is_not_covered_is_said(changes, why):
    assert engines.uncovered(settings(**changes), "compiled").startswith(why)
    with pytest.raises(engines.Uncovered, match=why):
        engines.built(settings(**changes), "compiled")


def test_without_numba_auto_takes_waves_or_the_reference(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert execute(drawn(3), silent, engine="auto").engine == "reference"
    assert execute(calm(0), silent, engine="auto").engine == "wavefront"
    with pytest.raises(ScenarioError, match=r"pip install 'tradebft\[fast\]'"):
        execute(drawn(3), silent, engine="compiled")


def test_auto_takes_the_fastest_and_says_so():
    records = execute(drawn(3), silent, engine="auto")
    assert (records.engine, records.engine_why) == ("compiled", "")
    many = {"nodes": 32, "links": {"model": "normal", "mean": "20 ms", "std": "4 ms"}}
    given = {"network": many, "nodes": {"cpu": "none"}, "consensus": {"client_timeout": "30 s"}}
    one = given | {"workload": {"kind": "synthetic", "transactions": 3, "clients": 1, "outstanding": 1}}
    several = given | {"workload": {"kind": "synthetic", "transactions": 30, "clients": 1, "outstanding": 8}}
    records = execute(Scenario.model_validate(one), silent, engine="auto")
    assert (records.engine, records.engine_why) == ("wavefront", "")
    records = execute(Scenario.model_validate(several), silent, engine="auto")
    assert (records.engine, records.engine_why) == (
        "compiled",
        "wavefront does not cover batches that overlap",
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nodes": {"cpu": "measured"}}, "processors that take time"),
        ({"network": {"nodes": 4, "bandwidth": "1 Gbit/s"}}, "bandwidth"),
        ({"network": {"nodes": 4, "loss": 0.01}}, "loss"),
        ({"consensus": {"view_change_timeout": "9 ms", "client_timeout": "30 s"}}, "a view change"),
        ({"consensus": {"client_timeout": "6 ms"}}, "a client that asks everybody"),
        (  # a timer goes off twice in a batch: after what the replica heard of it last it waits in vain
            {
                "seed": 47,
                "network": {"nodes": 4, "links": {"model": "lognormal", "median": "10 ms", "sigma": 0.9}},
                "consensus": {
                    "batch_size": 1,
                    "view_change_timeout": "100 s",
                    "client_timeout": "200 s",
                },
                "workload": {
                    "kind": "synthetic",
                    "transactions": 30,
                    "arrival": "open",
                    "rate": 9,
                    "spacing": "even",
                },
            },
            "a replica that asks its peers",
        ),
        (  # everything in one nanosecond: a checkpoint was mixed into the digest before it was voted for
            {"network": {"nodes": 4, "links": {"model": "constant", "delay": "0 ms"}}},
            "messages that take no time",
        ),
        (  # a timer rang before the request that came in its nanosecond, not after it
            {
                "network": {
                    "nodes": 4,
                    "links": {"model": "constant", "delay": "5 ms"},
                    "client_links": {"model": "constant", "delay": "0 ms"},
                }
            },
            "messages that take no time",
        ),
        (
            {
                "network": {"nodes": 3, "links": {"model": "constant", "delay": "5 ms"}},
                "consensus": {"window": 1, "batch_size": 2, "batch_timeout": "0 ms"},
                "workload": {"kind": "synthetic", "transactions": 20, "clients": 1, "outstanding": 3},
            },
            "a request in the nanosecond of an execution",
        ),
    ],
)
def test_waves_stop_where_they_are_no_waves(changes, why):
    given = {
        "network": {"nodes": 4, "links": {"model": "constant", "delay": "5 ms"}},
        "nodes": {"cpu": "none"},
        "workload": {"kind": "synthetic", "transactions": 20, "clients": 1, "outstanding": 1},
    }
    with pytest.raises(ScenarioError, match=f"engine wavefront does not cover {why}"):
        execute(Scenario.model_validate(given | changes), silent, engine="wavefront")


def test_waves_go_on_while_a_batch_fills_up():
    """Longer than an interval: the primary's timer finds nothing that it might miss."""
    given = {
        "network": {"nodes": 4, "links": {"model": "constant", "delay": "5 ms"}},
        "nodes": {"cpu": "none"},
        "consensus": {"batch_timeout": "400 ms", "client_timeout": "30 s"},
        "workload": {"kind": "synthetic", "transactions": 20, "clients": 1, "outstanding": 1},
    }
    assert differences(Scenario.model_validate(given), "wavefront") == []


def test_what_is_on_its_way_to_a_member_that_is_down_goes_on_too():
    """Its processor was slow and it crashed with much to do; the others have forgotten those blocks since."""
    config = {"batch_size": 1, "window": 4, "checkpoint_interval": 2, "log_window": 8, "snapshot_interval": 2}
    faults = [
        {"at": "100 ms", "for": "300 ms", "slow": "replica.6", "factor": 400},
        {"at": "400 ms", "crash": "replica.6"},
        {"at": "900 ms", "crash": "replica.0"},
    ]
    links = {"nodes": 7, "links": {"model": "constant", "delay": "2 ms"}}
    load = {"kind": "synthetic", "transactions": 300, "clients": 3, "outstanding": 10}
    given = {"network": links, "nodes": {"cpu": SLOW_CPU}, "consensus": config, "workload": load}
    assert differences(Scenario.model_validate(given | {"fault": faults}), "compiled") == []


def impatient(**timeouts) -> Scenario:
    return Scenario.model_validate(
        {
            "network": {"nodes": 4, "links": {"model": "constant", "delay": "5 ms"}},
            "consensus": timeouts,
            "workload": {"kind": "synthetic", "transactions": 20},
        }
    )


@pytest.mark.parametrize(
    ("timeouts", "why"),
    [
        ({"client_timeout": "6 ms"}, "the reference from 0.006 s on, for a client that asks everybody"),
        ({"view_change_timeout": "9 ms"}, "the reference from 0.0191915 s on, for a view change"),
    ],
)
def test_the_reference_goes_on_where_the_compiled_engine_stops(timeouts, why):
    """A client that asks everybody, a view change: nobody could have told before the run."""
    scenario = impatient(**timeouts)
    assert differences(scenario, "compiled") == []
    for engine in ("compiled", "auto"):
        records = execute(scenario, silent, engine=engine)
        assert (records.engine, records.engine_why) == ("compiled", why)


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_a_heavy_tail_alone_changes_no_view(seed, monkeypatch):
    """One message in two hundred takes 50 times what half of them take. Whoever waits for a proposal that others have
    committed meanwhile does not blame the primary for it, with either engine."""
    given = {
        "seed": seed,
        "network": {"nodes": 7, "links": {"model": "lognormal", "median": "20 ms", "sigma": 1.5}},
        "consensus": {"batch_size": 10, "client_timeout": "1 min"},
        "workload": {
            "kind": "synthetic", "transactions": 500, "arrival": "open", "rate": 200, "clients": 5,
        },
    }  # fmt: skip
    scenario = Scenario.model_validate(given)
    spares, spared = Changing._spares, []

    def counted(replica):
        spared.append(spares(replica))
        return spared[-1]

    monkeypatch.setattr(Changing, "_spares", counted)
    assert differences(scenario, "compiled") == []
    assert any(spared)
    records = execute(scenario, silent, engine="compiled")
    assert records.engine_why == ""
    assert "ViewChange" not in records.messages


def test_with_many_members_it_begins_again(monkeypatch):
    scenario = impatient(view_change_timeout="9 ms")
    monkeypatch.setattr(CompiledCluster, "_may_hand_over", False)
    with pytest.raises(ScenarioError, match="engine compiled does not cover a view change"):
        execute(scenario, silent, engine="compiled")
    records = execute(scenario, silent, engine="auto")
    assert (records.engine, records.engine_why) == ("reference", "compiled does not cover a view change")


def test_what_is_offered_is_what_there_is():
    assert OFFERED == engines.ENGINES


@pytest.mark.parametrize("engine", ["reference", "compiled", "wavefront"])
def test_runs_leave_no_more_than_the_last_network_in_memory(engine):
    """They refer to themselves in circles: of a sweep's thousands each would keep some megabytes."""
    scenario = Scenario.model_validate(
        {
            "network": {"nodes": 4, "links": {"model": "constant", "delay": "5 ms"}},
            "nodes": {"cpu": "none"},
            "workload": {"kind": "synthetic", "transactions": 3, "clients": 1, "outstanding": 1},
        }
    )

    def networks():
        return sum(isinstance(one, Timeline) for one in gc.get_objects())

    gc.disable()
    try:
        execute(scenario, silent, engine=engine)
        before = networks()
        for _ in range(3):
            execute(scenario, silent, engine=engine)
        assert networks() == before
    finally:
        gc.enable()


def test_a_network_of_two_hundred_members():
    runs = []
    for engine in ("reference", "compiled"):
        cluster = engines.built(
            settings(
                config=Config(200, checkpoint_interval=4, log_window=8),
                wire=Wire(Normal(5_000_000, 1_000_000), Mesh(200), None, 0.0),
            ),
            engine,
        )
        cluster.clients["client.0"].submit(0, b"x", "", lambda record: None)
        cluster.run(10**9)
        cluster.finish()
        runs.append((cluster.recorder.trace.hex(), cluster.env.delivered, cluster.recorder.messages))
        if engine == "compiled":
            assert (
                cluster._outstanding == {}
            )  # of requests that were answered nothing is kept to repeat them by
    assert runs[0] == runs[1]
    assert runs[0][1] > 70_000


def test_draws_ahead_are_those_of_the_bus():
    """The k-th reply of each replica to a client takes what `Alone` says."""
    from tradebft.network.delays import Alone, RepliesAhead

    chance, links = Chance(7), Normal(5_000_000, 2_000_000)
    for starts in ([0] * 4, [3, 0, 500, 20]):
        ahead = RepliesAhead(chance, links, starts, 9)
        alone = [Alone(chance, links, r, 9, False, start) for r, start in enumerate(starts)]
        for _ in range(100):
            assert ahead.next().tolist() == [pair.next()[0] for pair in alone]


# --- processors that have more to do than they can ---


BUSY = {
    "network": {"nodes": 13, "links": {"model": "uniform", "low": "1 ms", "high": "9 ms"}},
    "nodes": {"cpu": SLOW_CPU},
    "consensus": {"batch_size": 1, "window": 16, "view_change_timeout": "60 s", "client_timeout": "90 s"},
    "workload": {"kind": "synthetic", "transactions": 200, "clients": 4, "outstanding": 20},
}


def test_what_waits_for_a_processor_is_not_in_the_lane(monkeypatch):
    """With hundreds of members it would be millions, and each message would be sorted into them."""
    most = {"lane": 0, "flight": 0}

    def run(*given):
        stopped = kernel_run(*given)
        numbers = given[0]
        most["lane"] = max(most["lane"], numbers[memory.LANE])
        most["flight"] = max(most["flight"], numbers[memory.FLYING])
        return stopped

    kernel_run = compiled_kernel.run
    monkeypatch.setattr(compiled_kernel, "run", run)
    assert differences(Scenario.model_validate(BUSY), "compiled") == []
    assert most["flight"] > 1000
    assert most["lane"] < most["flight"] / 4


def test_more_messages_than_it_can_number_are_not_covered(monkeypatch):
    """An order in the lane has 24 bits for the flight: a number beyond would be another's."""
    monkeypatch.setattr(memory, "ITEMS", 1000)
    with pytest.raises(ScenarioError, match="more messages under way than it has numbers for"):
        execute(Scenario.model_validate(BUSY), silent, engine="compiled")
    assert execute(Scenario.model_validate(BUSY), silent, engine="auto").engine == "reference"
