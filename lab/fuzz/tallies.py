"""What a trial met and what it reached, as counts that add up over many trials."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from tradebft.consensus.membership import EPOCH_BITS
from tradebft.lab.fuzz.case import Case
from tradebft.lab.fuzz.outcome import Counts
from tradebft.network.cluster import Cluster

_NUMBERS = re.compile(r"\d+|'[^']*'|client\.\S+")


def injected(case: Case, cluster: Cluster, now: int) -> Counts:
    """How often each kind of fault bit: crashes of a member, messages lost, parted, slowed, doubled."""
    counts: Counter[str] = Counter(getattr(cluster.recorder, "injected", {}))
    if not counts:
        for fault in case.faults:
            if fault.at_ns <= now:
                counts[fault.kind] += len(fault.nodes) or 1
        for why, lost in cluster.recorder.dropped.items():
            counts[f"messages lost to {why}"] += lost
    for adversary in case.adversaries:
        if adversary.at_ns <= now:
            counts[f"byzantine {adversary.behaviour}"] += 1
    changes = sum(change.at_ns <= now for change in case.changes)
    if changes:
        counts["change of members"] += changes
    for behaviour in case.dishonest.values():
        counts[f"client {behaviour}"] += 1
    return dict(sorted(counts.items()))


def coverage(case: Case, cluster: Cluster, now: int) -> Counts:
    """What the trial reached; a swarm in which one of these stays at nought proves less than it seems to."""
    replicas = [cluster.nodes[index].replica for index in case.honest]
    ends = [
        (fault.at_ns + (fault.duration_ns or 0), len(fault.nodes))
        for fault in case.faults
        if fault.kind == "crash" and fault.duration_ns is not None
    ]
    return {
        "epochs": max((_epoch(replica) for replica in replicas), default=0),
        "decisions": len(cluster.recorder.decisions),
        "views": cluster.recorder.view,
        "view changes": sum(_of(replica, "view") % (1 << EPOCH_BITS) > 0 for replica in replicas),
        "restarts": sum(nodes for end, nodes in ends if end <= now),
        "state transfers": cluster.recorder.messages["FetchReply"],
        "snapshot chunks": cluster.recorder.messages["Chunk"],
        "stable checkpoints": max((_of(replica, "low") for replica in replicas), default=0)
        // case.config.checkpoint_interval,
        "answers": sum(r.replied_ns >= 0 for client in cluster.clients.values() for r in client.records),
        "requests": sum(len(client.records) for client in cluster.clients.values()),
    }


def evidence(cluster: Cluster) -> Counts:
    """Accusations by what was held against the member."""
    return _kinds(accusation["what"] for accusation in cluster.recorder.evidence)


def refusals(cluster: Cluster) -> Counts:
    """Inputs that were ignored, by reason: which of the accept rules the trial exercised."""
    counts: Counter[str] = Counter()
    for why, count in cluster.recorder.ignored.items():
        counts[_plain(why)] += count
    return dict(sorted(counts.items()))


def _kinds(texts: Any) -> Counts:
    return dict(sorted(Counter(_plain(text) for text in texts).items()))


def _plain(text: str) -> str:
    """Without the numbers and names of one case."""
    return _NUMBERS.sub("#", text)


def _epoch(replica: Any) -> int:
    committee = getattr(replica, "committee", None)
    return 0 if committee is None else int(committee.epoch)


def _of(replica: Any, name: str) -> int:
    return int(getattr(replica, name, 0))
