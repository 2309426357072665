"""What a real network leaves behind, as the same records that a simulated one fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tradebft.network.live.client import LiveClient
from tradebft.network.live.observed import Commit, Seen
from tradebft.scenarios import records as tables
from tradebft.scenarios.records import Records

CHECKED: Final = ("agreement", "state-roots")
"""The invariants that can be judged from what members tell at the end; the simulator sees more."""
SAME_AS_SIMULATED: Final = "same ledger as simulated"


def collect_live(
    records: Records, seen: Sequence[Seen], clients: Iterable[LiveClient], began_ns: int
) -> None:
    """Fill in what members and clients counted. *began_ns*: when the load began, by their clock."""
    messages: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for one in seen:
        messages.update(one.sent)
        ignored.update(one.ignored)
        dropped.update(one.dropped)
        records.evidence += [
            {"at_ns": -1, "by": one.member, "culprit": culprit, "what": what}
            for culprit, what in one.evidence
        ]
    for client in clients:
        messages.update(client.port.sent)
        ignored.update(client.counts)
        records.bytes_sent += client.port.sent_bytes
    records.bytes_sent += sum(one.sent_bytes for one in seen)
    records.messages = dict(sorted(messages.items()))
    records.ignored, records.dropped = dict(sorted(ignored.items())), dict(sorted(dropped.items()))
    records.view_changes = max((c.view for one in seen for c in one.commits), default=0)
    records.decisions = tables.table(tables.DECISION_COLUMNS, _decisions(records, seen, began_ns))
    records.invariants_checked += [name for name in CHECKED if name not in records.invariants_checked]
    records.violations += _violations(seen, began_ns)
    records.live |= {
        "members": [
            {
                "height": one.height,
                "root": one.root.hex(),
                "cpu_seconds": round(one.cpu_seconds, 6),
                "messages": sum(one.sent.values()),
            }
            for one in seen
        ]
    }


def _by_sequence(seen: Sequence[Seen]) -> dict[int, list[tuple[int, Commit]]]:
    found: dict[int, list[tuple[int, Commit]]] = {}
    for one in seen:
        for commit in one.commits:
            found.setdefault(commit.seq, []).append((one.member, commit))
    return dict(sorted(found.items()))


def _decisions(records: Records, seen: Sequence[Seen], began_ns: int) -> list[tuple[Any, ...]]:
    proposed: dict[int, int] = {}
    for one in seen:
        for seq, _, at in one.proposed:
            proposed[seq] = min(at, proposed.get(seq, at))
    rows = []
    for seq, commits in _by_sequence(seen).items():
        first = commits[0][1]
        if not first.transactions:
            continue
        times = sorted(commit.at_ns - began_ns for _, commit in commits)
        quorum = times[records.quorum - 1] if len(times) >= records.quorum else -1
        everywhere = times[-1] if len(times) == len(records.nodes) else -1
        begun = proposed[seq] - began_ns if seq in proposed else quorum
        rows.append((seq, first.view, first.transactions, first.length, begun, quorum, everywhere))
    return rows


def _violations(seen: Sequence[Seen], began_ns: int) -> list[dict[str, Any]]:
    found = []
    for seq, commits in _by_sequence(seen).items():
        _, first = commits[0]
        for member, commit in commits[1:]:
            differs = "agreement" if commit.digest != first.digest else "state-roots"
            if (commit.digest, commit.root) != (first.digest, first.root):
                at = commit.at_ns - began_ns
                what = f"sequence {seq} is not what replica {commits[0][0]} has there"
                found.append({"invariant": differs, "at_ns": at, "replica": member, "what": what})
    return found


def forget_consensus(records: Records) -> None:
    """Drop what a simulation left about consensus: real members did it over."""
    records.bytes_sent = records.view_changes = 0
    records.messages, records.ignored, records.dropped = {}, {}, {}
    records.evidence, records.trace_digest = [], ""


def compare_roots(records: Records, found: Iterable[bytes], blocks: int) -> None:
    """Note the ledger that real members came to beside the simulated one; a violation where their roots differ."""
    simulated = records.ledger["state_root"]
    roots = sorted({root.hex() for root in found})
    same = roots == [simulated]
    records.live |= {
        "replayed_blocks": blocks,
        "simulated_state_root": simulated,
        "state_root": roots[0] if len(roots) == 1 else "",
        "same_as_simulated": same,
    }
    records.invariants_checked.append(SAME_AS_SIMULATED)
    if not same:
        what = f"real members came to {', '.join(roots) or 'nothing'}, the simulation to {simulated}"
        records.violations.append({"invariant": SAME_AS_SIMULATED, "at_ns": -1, "replica": -1, "what": what})
