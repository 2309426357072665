"""How a case fails, told: a transcript of the end of its run, and a space-time diagram of the same stretch of time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tradebft.lab.fuzz.case import GOVERNOR, Case, MemberChange, save
from tradebft.lab.fuzz.outcome import Outcome
from tradebft.lab.fuzz.printed import violation
from tradebft.lab.fuzz.trial import try_case
from tradebft.lab.fuzz.watching import LOST, Notes, Sent, summary
from tradebft.network.faults import Fault

MS, S = 10**6, 10**9
COPIES_MAX: Final = 900  # in the picture and the transcript: the last so many
WAITED: Final = ("liveness", "convergence", "views-settle", "runaway")  # nothing happens when these are found


class Story(NamedTuple):
    """One run of a case, and the stretch of it that is told (ns)."""

    case: Case
    outcome: Outcome
    notes: Notes
    begin_ns: int
    end_ns: int


def tell(case: Case) -> Story:
    """Run *case* and listen."""
    notes = Notes()
    outcome = try_case(case, notes)
    end = outcome.virtual_ns
    if outcome.first is not None:
        end = outcome.first.at_ns
        if outcome.first.invariant in WAITED:
            quiet = max(notes.progress_ns, case.storm_ns) + 2 * case.config.view_change_timeout_ns
            end = min(end, quiet)
    shown, begin = 0, 0
    sent = sorted((s for s in notes.sent if s.at_ns <= end), key=lambda s: s.at_ns)
    for message in reversed(sent):
        shown += len(message.copies)
        if shown > COPIES_MAX:
            begin = message.at_ns + 1
            break
    return Story(case, outcome, notes, begin, end)


def leave(case: Case, stem: Path) -> dict[str, Any]:
    """Write `STEM.json` (a replay file), `.txt`, `.png` and `.svg`; say where they are and how large the case is."""
    from tradebft.lab import figure_style
    from tradebft.lab.fuzz import picture

    story = tell(case)
    save(stem.with_suffix(".json"), case, story.outcome.first, story.outcome.digest)
    stem.with_suffix(".txt").write_text(transcript(story), encoding="utf-8")
    drawn = picture.draw(story)
    figure_style.write(drawn, stem)
    return {
        "replay": str(stem.with_suffix(".json")),
        "transcript": str(stem.with_suffix(".txt")),
        "picture": str(stem.with_suffix(".png")),
        "nodes": case.config.nodes,
        "requests": len(case.asks),
        "faults": len(case.faults),
        "adversaries": len(case.adversaries),
        "virtual_seconds": round(story.outcome.virtual_ns / S, 3),
    }


# --- the transcript ---


def transcript(story: Story) -> str:
    """What the case is, and what happened in it, a line an event. Times are virtual, in milliseconds."""
    rows = sorted(_rows(story), key=lambda row: (row[0], row[1]))
    body = [f"{at / MS:12.3f}  {text}" for at, _, text in rows]
    return "\n".join([*_heading(story), "", *body]) + "\n"


def _heading(story: Story) -> Iterator[str]:
    case, config = story.case, story.case.config
    yield violation(story.outcome.first)
    yield (
        f"seed {case.seed}: {config.nodes} members (f = {config.faults}, quorum {config.quorum}), K = "
        f"{config.checkpoint_interval}, L = {config.log_window}, window {config.window}, view-change timeout "
        f"{config.view_change_timeout_ns // MS} ms, client timeout {case.client_timeout_ns // MS} ms"
    )
    links = ", ".join(f"{name} {value}" for name, value in case.links.parameters.items())
    yield f"links: {case.links.model}, {links}; {len(case.asks)} requests; the storm lasts {case.storm_ns // MS} ms"
    for adversary in case.adversaries:
        until = "" if adversary.until_ns is None else f" until {adversary.until_ns // MS} ms"
        details = f" {adversary.parameters}" if adversary.parameters else ""
        yield f"member {adversary.node} from {adversary.at_ns // MS} ms{until}: {adversary.behaviour}{details}"
    for name, what in case.dishonest.items():
        yield f"{name}: {what}"
    for change in case.changes:
        yield f"{GOVERNOR} at {change.at_ns // MS} ms: {change_in_words(change)}"
    for fault in case.faults:
        until = (
            "for ever" if fault.duration_ns is None else f"to {(fault.at_ns + fault.duration_ns) // MS} ms"
        )
        yield f"from {fault.at_ns // MS} ms {until}: {fault_in_words(fault)}"
    if case.mutant:
        yield f"planted bug: {case.mutant}"
    if story.begin_ns:
        yield f"told from {story.begin_ns / MS:.3f} ms on"


def change_in_words(change: MemberChange) -> str:
    """ "the members are 0, 1 (key 1), 2, 4"."""
    named = [f"{index} (key {key})" if key else str(index) for index, key in change.members]
    return "the members are " + ", ".join(named)


def fault_in_words(fault: Fault) -> str:
    """ "crash of 0, 1"; "partition 2 | the others"."""
    if fault.kind == "partition":
        return "partition " + " | ".join(_members(group) for group in fault.groups) + " | the others"
    named = " of " + _members(fault.nodes) if fault.nodes else ""
    size = "".join(
        f" {name} {value:g}"
        for name, value, usual in (("x", fault.factor, 1.0), ("share", fault.loss, 0.0))
        if value != usual
    )
    return f"{fault.kind}{named}{size}"


def _members(nodes: tuple[int, ...]) -> str:
    return ", ".join(map(str, nodes))


def _rows(story: Story) -> Iterator[tuple[int, int, str]]:
    """(time, rank among simultaneous ones, text) of everything in the stretch."""
    case, notes, begin, end = story.case, story.notes, story.begin_ns, story.end_ns
    names = endpoints(story)
    for fault in case.faults:
        yield fault.at_ns, 0, f"*** {fault_in_words(fault)}"
        if fault.duration_ns is not None and fault.at_ns + fault.duration_ns <= end:
            yield fault.at_ns + fault.duration_ns, 0, f"*** over: {fault_in_words(fault)}"
    for event in notes.events:
        if begin <= event.at_ns <= end:
            yield event.at_ns, 1, f"{names[event.endpoint]} {event.what}"
    for message in notes.sent:
        if begin <= message.at_ns <= end:
            yield message.at_ns, 2, _line(message, names)
    for name, client in notes.cluster.clients.items():
        for record in client.records:
            if begin <= record.replied_ns <= end:
                yield record.replied_ns, 1, f"{name} has the answer to its request {record.sequence}"
    if story.outcome.first is not None:
        yield story.outcome.first.at_ns, 3, f"!!! {violation(story.outcome.first)}"


def _line(sent: Sent, names: list[str]) -> str:
    """ "0 -> all  PrePrepare v0 s1 3fa2b1  (1 +10.0, 2 +10.0, 3 lost)"."""
    arrivals = ", ".join(
        f"{names[copy.receiver]} "
        + ("lost" if copy.arrives_ns == LOST else f"+{(copy.arrives_ns - sent.at_ns) / MS:.1f}")
        for copy in sorted(sent.copies)
    )
    to = "all" if sent.everybody else names[sent.copies[0].receiver] if sent.copies else "nobody"
    return f"{names[sent.sender]} -> {to}  {summary(sent.message)}  ({arrivals})"


def endpoints(story: Story) -> list[str]:
    """Names of all endpoints: members by their numbers, clients by their names."""
    case = story.case
    return [*map(str, range(case.everybody)), *case.clients, *([GOVERNOR] if case.changes else [])]
