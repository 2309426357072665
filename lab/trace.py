"""Messages between replicas, drawn: one renderer for transcripts, reports of the fuzzer and the HTML report.

    messages = trace.messages(records.round)
    print(trace.transcript(messages))                 # one line a message, in the order of sending
    print(trace.columns(messages, records.nodes))     # one column a replica, one row an event
    diagram = trace.diagram(messages, records.nodes)  # lanes, arrows and phases in milliseconds

Times count from the first message shown, so that a round reads alike whenever in the month it happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

CLIENT_LANES = 3
KIND_ORDER = (
    "Request",
    "PrePrepare",
    "Prepare",
    "Commit",
    "Reply",
    "Checkpoint",
    "ViewChange",
    "NewView",
    "Fetch",
    "FetchReply",
    "Status",
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message from one sender to one receiver; `arrived_ns` is -1 when it was lost."""

    kind: str
    sender: str
    receiver: str
    sent_ns: int
    arrived_ns: int
    view: int = 0
    seq: int = 0

    @property
    def lost(self) -> bool:
        return self.arrived_ns < 0


@dataclass(frozen=True, slots=True)
class Arrow:
    """A message as a line from (sent_ms, sender's lane) to (arrived_ms, receiver's lane)."""

    kind: str
    sender: int
    receiver: int
    sent_ms: float
    arrived_ms: float | None  # None: lost on the way


@dataclass(frozen=True, slots=True)
class Phase:
    """All messages of one kind: from the first that was sent to the last that arrived."""

    kind: str
    begin_ms: float
    end_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Diagram:
    """A space-time diagram: lanes from top to bottom, time in milliseconds from left to right."""

    lanes: list[str]
    arrows: list[Arrow]
    phases: list[Phase]
    end_ms: float


def messages(rows: pl.DataFrame) -> list[Message]:
    """The rows of `Records.round` as messages, in the order of sending (ties: kind, sender, receiver)."""
    found = [
        Message(
            row["kind"],
            row["sender"],
            row["receiver"],
            row["sent_ns"],
            row["arrived_ns"],
            row["view"],
            row["seq"],
        )
        for row in rows.iter_rows(named=True)
    ]
    return sorted(found, key=lambda m: (m.sent_ns, kind_rank(m.kind), m.sender, m.receiver))


def kind_rank(kind: str) -> tuple[int, str]:
    """The order in which a reader of the paper expects the kinds; unknown kinds come last, by the alphabet."""
    return (KIND_ORDER.index(kind), "") if kind in KIND_ORDER else (len(KIND_ORDER), kind)


def lanes(shown: Sequence[Message], nodes: Sequence[str]) -> dict[str, int]:
    """The lane of everybody who takes part: clients above (whoever is no node), then the nodes by their indexes.

    More than three clients share one lane, since the round is about the nodes.
    """
    present = {m.sender for m in shown} | {m.receiver for m in shown}
    clients = sorted(present - set(nodes))
    shared = len(clients) > CLIENT_LANES
    found = {client: 0 if shared else index for index, client in enumerate(clients)}
    first = 1 if shared else len(clients)
    return found | {
        node: first + index for index, node in enumerate(node for node in nodes if node in present)
    }


def lane_names(lane: dict[str, int]) -> list[str]:
    """What to write beside each lane, from the first on."""
    sharing = Counter(lane.values())
    names = {
        index: name if sharing[index] == 1 else f"{sharing[index]} clients" for name, index in lane.items()
    }
    return [names[index] for index in sorted(names)]


def some_of(nodes: Sequence[str], rows: pl.DataFrame, most: int) -> list[str]:
    """*most* of *nodes*, from the first to the last and evenly between; and the ends of the first message of
    `Records.round`, and who made the first proposal."""
    spread = {nodes[place * (len(nodes) - 1) // (most - 1)] for place in range(most)}
    first = rows.sort("sent_ns", maintain_order=True).head(1)
    proposal = rows.filter(pl.col("kind") == "PrePrepare").sort("sent_ns", maintain_order=True).head(1)
    led = {*first["sender"], *first["receiver"], *proposal["sender"]}
    return [node for node in nodes if node in spread | led]


def among(rows: pl.DataFrame, nodes: Sequence[str], some: Sequence[str]) -> pl.DataFrame:
    """Those of `Records.round` that are not from or to any of *nodes* but *some*."""
    others = [node for node in nodes if node not in set(some)]
    return rows.filter(~pl.col("sender").is_in(others) & ~pl.col("receiver").is_in(others))


def phases(rows: pl.DataFrame) -> list[Phase]:
    """Of all messages of `Records.round`."""
    ended = pl.when(pl.col("arrived_ns") < 0).then("sent_ns").otherwise("arrived_ns")
    found = rows.group_by("kind").agg(begin=pl.col("sent_ns").min(), end=ended.max(), count=pl.len())
    told = sorted(found.iter_rows(named=True), key=lambda row: kind_rank(row["kind"]))
    origin = min((row["begin"] for row in told), default=0)
    return [
        Phase(row["kind"], _ms(row["begin"], origin), _ms(row["end"], origin), row["count"]) for row in told
    ]


def diagram(
    shown: Sequence[Message], nodes: Sequence[str], everybody: Sequence[Phase] | None = None
) -> Diagram:
    """Where every arrow of these messages begins and ends. *everybody*: phases that count others as well."""
    lane = lanes(shown, nodes)
    origin = min((m.sent_ns for m in shown), default=0)
    arrows = [
        Arrow(
            m.kind,
            lane[m.sender],
            lane[m.receiver],
            _ms(m.sent_ns, origin),
            None if m.lost else _ms(m.arrived_ns, origin),
        )
        for m in shown
    ]
    counted = [*(phases(_times(shown)) if everybody is None else everybody)]
    return Diagram(lane_names(lane), arrows, counted, max((phase.end_ms for phase in counted), default=0.0))


def transcript(shown: Sequence[Message]) -> str:
    """One line a message. A broadcast is a line for each receiver, since each copy has its own time."""
    origin = min((m.sent_ns for m in shown), default=0)
    width = max((len(m.sender) for m in shown), default=0)
    return "\n".join(
        f"{_ms(m.sent_ns, origin):10.3f} ms  {m.sender:>{width}} -> {m.receiver:<{width}}  "
        + f"{m.kind} v{m.view} s{m.seq}"
        + ("  LOST" if m.lost else f"  arrives {_ms(m.arrived_ns, origin):.3f} ms")
        for m in shown
    )


def columns(shown: Sequence[Message], nodes: Sequence[str]) -> str:
    """A space-time diagram in text: time runs down, each replica has a column, each row is what happened at
    one.

    `> Prepare` is a broadcast or a send, `Prepare < 2` an arrival from lane 2, `x Prepare` a message that
    got lost.
    """
    lane = lanes(shown, nodes)
    order = lane_names(lane)
    origin = min((m.sent_ns for m in shown), default=0)
    events: dict[
        tuple[int, int, int, str], None
    ] = {}  # insertion keeps one row for the copies of a broadcast
    for m in shown:
        events[(m.sent_ns, 0, lane[m.sender], f"> {m.kind}")] = None
        if m.lost:
            events[(m.sent_ns, 1, lane[m.receiver], f"x {m.kind} < {lane[m.sender]}")] = None
        else:
            events[(m.arrived_ns, 2, lane[m.receiver], f"{m.kind} < {lane[m.sender]}")] = None
    width = max((len(text) for *_, text in events), default=0) + 2
    rows = [f"{index}: {name}" for index, name in enumerate(order)]
    rows.append("        ms  " + "".join(f"{index:<{width}}" for index in range(len(order))).rstrip())
    for at_ns, _, index, text in sorted(events):
        cells = "".join((text if column == index else "|").ljust(width) for column in range(len(order)))
        rows.append(f"{_ms(at_ns, origin):10.3f}  {cells.rstrip()}")
    return "\n".join(rows)


def _times(shown: Sequence[Message]) -> pl.DataFrame:
    rows = [(m.kind, m.sent_ns, m.arrived_ns) for m in shown]
    return pl.DataFrame(rows, {"kind": pl.Utf8, "sent_ns": pl.Int64, "arrived_ns": pl.Int64}, orient="row")


def _ms(at_ns: int, origin_ns: int) -> float:
    return (at_ns - origin_ns) / 1e6
