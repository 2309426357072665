"""What the compiled engine hands over is what the reference would have by then, field by field: the first time, and
after it took the run back.

Certificates may name another quorum of those who voted; everything else that is remembered is compared.
"""

from collections import Counter, deque
from typing import Any

import msgspec
import pytest
from drawn_scenarios import drawn, led, rough, wild
from test_taking_back import at_once
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.messages import FetchReply, NewView, SnapshotHead, ViewChange
from tradebft.network.virtual_time import Flight
from tradebft.scenarios import simulation
from tradebft.scenarios.run import client_names
from tradebft.scenarios.synthetic import SyntheticLoad

pytest.importorskip("tradebft.network.compiled.cluster")

# Who somebody is, what is looked up, what is computed once and kept.
OF_NO_ACCOUNT = {"signer", "keyring", "base_keyring", "config", "committee", "_committee", "_handlers"} | {
    "chunk_digests", "row", "entries", "coalition",
}  # fmt: skip
# Where it matters only while something else holds: `asked_at` while asking; the top of slots that are gone; the time of
# the input at hand.
IN_PASSING = {"asked_at", "top", "now"}


def plain(value: Any) -> Any:
    """*value* in tuples and dictionaries, certificates without their voters."""
    if isinstance(value, QuorumCertificate):
        return value.kind, value.view, value.seq, value.digest, len(value.votes)
    if isinstance(
        value, FetchReply | SnapshotHead | ViewChange | NewView
    ):  # its signature covers certificates
        value = msgspec.structs.replace(value, signature=b"")
    if isinstance(value, msgspec.Struct):
        return type(value).__name__, {f: plain(getattr(value, f)) for f in value.__struct_fields__}
    if isinstance(value, dict | Counter):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(one) for one in value]
    names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
    if not names or not type(value).__module__.startswith("tradebft"):
        return value
    fields = {name: getattr(value, name) for name in names if name not in OF_NO_ACCOUNT}
    return {name: plain(one) for name, one in fields.items()}


def replica(node):
    inner = node.replica
    while hasattr(inner, "inner"):
        inner = inner.inner
    found = {name: one for name, one in plain(inner).items() if name not in IN_PASSING}
    found["asked_at"] = inner.asked_at if inner.asking else None
    found["slots"] = {
        seq: one for seq, one in found["slots"].items() if any(map(bool, list(one.values())[1:]))
    }
    for slot in found["slots"].values():
        if slot["closed"]:  # how many votes it had is of no use any more
            del slot["prepare_count"], slot["commit_count"]
    return found


def disk(node):
    found = plain(node._disk)
    return found | {"_records": sorted(found["_records"], key=repr)}


def on_the_way(env):
    found = []
    for _, _, flight in env.on_its_way():
        assert isinstance(flight, Flight)
        for place, delay in zip(flight.places[flight.next :], flight.delays[flight.next :], strict=True):
            found.append((flight.start + delay, place, plain(flight.message)))
    return sorted(found, key=repr)


def alarms(bus):
    running = bus._timers._timers
    return {who: (one.deadline, one.alarm_at) for who, one in running.items() if one.alarm_at >= 0}


def drawn_so_far(bus):
    alone = {ends: one._drawn - len(one._delays) + one._at for ends, one in bus._alone.items()}
    said = {r: one._drawn - len(one._delays) + one._at for r, one in bus._broadcasts.items()}
    told = {r: count for r, count in enumerate(bus._said) if count and r not in said}
    return {ends: count for ends, count in alone.items() if count}, {
        r: n for r, n in (said | told).items() if n
    }


def records(recorder):
    decisions = {seq: plain(one) for seq, one in recorder.decisions.items()}
    for one in decisions.values():
        if (
            one["quorum_ns"] < 0 or one["all_ns"] >= 0
        ):  # who was up when it had its quorum: of no use yet, or any more
            del one["live"]
        if one["all_ns"] >= 0:
            del one["committed"]
    counts = [plain(+getattr(recorder, name)) for name in ("messages", "ignored", "dropped", "injected")]
    return decisions, counts, plain(recorder._proposals), recorder.bytes_sent, recorder.last_commit_ns


def standing(cluster, clients):
    """All that *cluster* remembers."""
    up = [node for node in cluster.nodes if node.up]
    found: dict[str, Any] = {
        "who is up": [node.index for node in up],
        "replicas": {node.index: replica(node) for node in up},
        "disks": {node.index: disk(node) for node in up},
        "heights": {node.index: node._height for node in up},
        "inboxes": {node.index: plain(+node._inbox) for node in up},
        "processors": {node.index: max(cluster.env.time, node.owes_until_ns) for node in up},
        "interfaces": [max(cluster.env.time, free) for free in cluster.bus._interface_free],
        "blocks": plain(cluster._shared.chronicle.blocks),
        "height": cluster._shared.chronicle.height,
        "on the way": on_the_way(cluster.env),
        "timers": alarms(cluster.bus),
        "draws": drawn_so_far(cluster.bus),
        "records": records(cluster.recorder),
        "clients": {name: plain(node.client) for name, node in clients.items()},
        "judged": (cluster.checker._committed, cluster.checker._checked),
        "counts": (cluster.env.time, cluster.env.delivered, cluster._live, cluster._changed_ns),
    }
    return found


def differences(one, other, path=""):
    """Where they differ, by path."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(k for k in other if k not in one)]:
            yield from differences(one.get(key, "nothing"), other.get(key, "nothing"), f"{path}/{key}")
    elif one != other:
        yield path, str(one)[:300], str(other)[:300]


def network(scenario, engine):
    workload = scenario.workload
    cluster = simulation.cluster(scenario, client_names(workload), engine=engine)
    SyntheticLoad(scenario, workload, cluster).start()
    return cluster


MOMENTS = (40_000_001, 150_000_003, 600_000_007, 1_200_000_011)


def compared(scenario) -> int:
    """At how many moments, up to where the engine hands over by itself."""
    done = 0
    for moment in MOMENTS:
        ours, theirs = network(scenario, "compiled"), network(scenario, "reference")
        ours.run(moment)
        if ours.handed_over:
            break
        rest = ours.hand_over("a comparison")
        theirs.run(moment)
        found = list(differences(standing(rest, ours.clients), standing(theirs, theirs.clients)))
        assert found == [], (moment, found)
        done += 1
    return done


def compared_again(scenario, first, then) -> int:
    """1 if the engine has the run back at *then*, having handed it over at *first*; how it stands is compared."""
    ours, theirs = network(scenario, "compiled"), network(scenario, "reference")
    ours.run(first)
    if not ours.elsewhere:
        ours.hand_over("a comparison")
    ours.run(then)
    if ours.elsewhere:
        return 0
    rest = ours.hand_over("another")
    theirs.run(then)
    mine, others = standing(rest, ours.clients), standing(theirs, theirs.clients)
    found = list(differences(mine, others))
    assert found == [], (first, then, found)
    return 1


AGAIN = ((20_000_001, 150_000_003), (100_000_001, 600_000_007), (700_000_001, 1_200_000_011))
LATER = ((1_000_000_001, 1_600_000_003), (1_000_000_001, 2_600_000_003), (2_000_000_001, 2_400_000_003))


@pytest.mark.parametrize(
    ("made", "moments", "least"), [(drawn, AGAIN, 12), (rough, AGAIN, 12), (wild, AGAIN, 6), (led, LATER, 18)]
)
def test_everything_stands_where_it_would_after_a_return(monkeypatch, made, moments, least):
    at_once(monkeypatch)
    assert sum(compared_again(made(k), *when) for k in range(8, 20) for when in moments) >= least


@pytest.mark.parametrize("made", [drawn, rough])
def test_everything_stands_where_it_would(made):
    assert sum(compared(made(number)) for number in range(12)) >= 33
