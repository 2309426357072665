"""What a person reads after a swarm: a few lines, the violations first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tradebft.consensus.invariants import Violation

S = 10**9
AT_MOST = 10  # violations told one by one


def violation(found: Violation | None) -> str:
    """ "liveness at 3.21 s: 7 requests unanswered ..."."""
    if found is None:
        return "no violation"
    where = f", replica {found.replica}" if found.replica >= 0 else ""
    return f"{found.invariant} at {found.at_ns / S:.3f} s{where}: {found.what}"


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The document of a swarm, told. What another explorer reports is told as far as it has the same entries."""
    for entry in document.get("violations", [])[:AT_MOST]:
        found = Violation(entry["invariant"], entry["at_ns"], entry["replica"], entry["what"])
        yield (f"seed {entry['seed']}" if "seed" in entry else entry["scenario"]) + f": {violation(found)}"
        if "command" in entry:
            yield f"  {entry['command']}"
        for name in ("transcript", "picture"):
            if name in entry.get("shrunk", {}):
                yield f"  {name} of the smallest case: {entry['shrunk'][name]}"
    hidden = len(document.get("violations", [])) - AT_MOST
    if hidden > 0:
        yield f"and {hidden} more"
    if document.get("command") == "fuzz":
        yield from _summary(document)
    if "mutants" in document:
        yield from _mutants(document)
    if document.get("command") in ("fuzz --twins", "fuzz --small-scope"):
        from tradebft.lab.fuzz import explorers

        yield from explorers.lines(document)


def _summary(document: Mapping[str, Any]) -> Iterator[str]:
    low, high = document["nodes"]
    rate = document["seeds_per_minute"]
    yield (
        f"{document['seeds']:,} seeds, {low} to {high} members, {document['virtual_seconds']:,.0f} s of virtual"
        f" time in {document['wall_seconds']:,.0f} s" + (f", {rate:,.0f} seeds a minute" if rate else "")
    )
    yield "faults: " + _counts(document["faults_injected"])
    yield "reached: " + _counts(document["coverage"])
    if document["evidence"]:
        yield "evidence: " + _counts(document["evidence"])
    broken = len(document["violations"])
    yield f"VIOLATED in {broken} of {document['seeds']:,} seeds" if broken else "no violation"
    yield f"digest {document['digest']}"


def _mutants(document: Mapping[str, Any]) -> Iterator[str]:
    for found in document["mutants"]:
        yield f"{found['name']:38} " + (
            f"seed {found['seed']}, {found['seconds']:.1f} s: {found['invariant']}"
            if found["killed"]
            else f"SURVIVES {found['seeds_tried']:,} seeds, {found['seconds']:.0f} s {found['what']}".rstrip()
        )
    for name in document["unclean"]:
        yield f"{name}: the code as it is breaks with the same seed"
    yield f"{document['killed']} of {len(document['mutants'])} mutants found in {document['wall_seconds']:,.0f} s"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "none"
