"""What a result says, in sentences for a reader who is no engineer. Every number comes out of the document.

Two rules of honesty shape the sentences. Milliseconds of the ledger and days of the process are named apart. What
rests on assumption is called so in the same breath as the figure, and what the ledger missed is said first-hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradebft.lab import metrics, wording

Document = dict[str, Any]

UNFINISHED_SHARE = 0.05  # more of them are told of
CLOSE_PER_CENT = 5.0  # arms nearer to one another than this are called the same
CUSTOMERS = {"new_customer_days": "new customers", "existing_customer_days": "existing customers"}


def arms(document: Document) -> list[str]:
    """The arms that paid out anything; none in a synthetic scenario."""
    return [
        arm for arm in metrics.ARMS if _median(document, arm, "new_customer_days", "existing_customer_days")
    ]


def alarms(document: Document) -> list[str]:
    """What a reader must know before anything else, or nothing: broken promises of the protocol first."""
    found = []
    violations = document["invariants"]["violations"]
    if violations:
        found.append(
            f"{wording.count(len(violations), 'violation')} of an invariant. What the protocol promises did not hold in"
            " this run; no figure below may be used as if it had."
        )
    if document.get("expectations_failed"):
        found.append(
            "The scenario's own expectations did not all hold: " + "; ".join(document["expectations_failed"])
        )
    if not document["complete"]:
        found.append(
            "This run was interrupted. The figures cover what had happened until then; applications that were still"
            " under way are counted as unfinished, so slow arms look faster than they are."
        )
    found += unfinished(document)
    if document["false_alarms"]:
        found.append(
            f"False alarms: the ledger rejected {wording.count(document['false_alarms'], 'honest application')}."
        )
    return found


def unfinished(document: Document) -> list[str]:
    """A line for each arm that did not get to the end of more than a twentieth of its honest applications."""
    lines = []
    for arm in metrics.ARMS:
        entry = document["processes"][arm]
        if entry["honest"] and entry["unfinished"] > UNFINISHED_SHARE * entry["honest"]:
            lines.append(
                f"{wording.arm(arm)}: {entry['unfinished']:,} of {entry['honest']:,} honest applications were"
                " unfinished when the run ended. Days count only those that were paid out, so the arm looks faster"
                " than it is."
            )
    return lines


def real(document: Document) -> bool:
    """Whether real members ran it in real time, and nothing was simulated."""
    return bool(document["bus"] != "simulated")


def headline(document: Document) -> str:
    """One sentence that could stand alone."""
    paper, chain = (_median(document, arm, *CUSTOMERS) for arm in ("paper", "chain"))
    gap = gap_per_cent(document)
    if paper and chain:
        new = all(document["processes"][arm]["new_customer_days"]["count"] for arm in ("paper", "chain"))
        who = "a new customer" if new else "an existing customer"
        same = " A central database does the same." if gap is not None and gap <= CLOSE_PER_CENT else ""
        return (
            f"From {_days(paper)} to {_days(chain)}: the median wait of {who} for money, on paper and on the"
            f" chain.{same}"
        )
    consensus = document["consensus"]
    if consensus["client_ms"]["count"]:
        return (
            f"{wording.count(document['nodes'], 'replica')} answered"
            f" {wording.count(consensus['client_ms']['count'], 'request')}; half of them within"
            f" {wording.milliseconds(consensus['client_ms']['p50'])}, 99 in a hundred within"
            f" {wording.milliseconds(consensus['client_ms']['p99'])}."
        )
    return f"{document['nodes']} replicas; no request was answered."


def month(document: Document) -> list[str]:
    """What the period looked like in each arm, in days."""
    sentences = []
    for arm in arms(document):
        entry = document["processes"][arm]
        parts = [
            f"{CUSTOMERS[key]} waited {_days(entry[key]['p50'])} (median; eight in ten between"
            f" {_days(entry[key]['p10'])} and {_days(entry[key]['p90'])})"
            for key in CUSTOMERS
            if entry[key]["count"]
        ]
        share = entry["within_7_days"]
        quick = (
            ""
            if share is None
            else f" Within seven days {_per_cent(share)} of the new customers had their money."
        )
        sentences.append(f"{wording.arm(arm)}: {', '.join(parts)}.{quick}")
    return sentences


def gap_per_cent(document: Document) -> float | None:
    """By how many per cent the database's median days differ from the chain's, for the worse kind of customers."""
    gaps = []
    for key in CUSTOMERS:
        database, chain = (document["processes"][arm][key]["p50"] for arm in ("database", "chain"))
        if database and chain:
            gaps.append(100 * abs(database - chain) / chain)
    return max(gaps, default=None)


def what_saves_the_days(document: Document) -> list[str]:
    """The comparison with the database, and what it does and does not say about a chain."""
    gap = gap_per_cent(document)
    if gap is None:
        return []
    close = gap <= CLOSE_PER_CENT
    found = [
        f"A central database with the same workflow differs from the chain by {_small(gap)} % of the median days."
        + (
            " In other words: consensus is not what saves the days. They are saved by what both arms share: papers that"
            " are data, customs and tax figures that come signed from their source, and checks of a new firm that"
            " one bank makes and the others can rely on."
            if close
            else " The two arms share the workflow, so a gap of this size comes from the ledger or from faults injected"
            " into it, and deserves a look at the latency figures below."
        )
    ]
    found.append(
        f"The chain's case is another one. {document['nodes']} institutions keep the same book without one of them"
        f" having to be its operator; up to {document['faults_tolerated']} of them may fail, lie or be"
        " compromised without the others agreeing on something false; and an entry that a bank relied on"
        " yesterday cannot be altered today without everybody seeing it. Whether that is worth a"
        " consortium is a question of trust between institutions, not of speed."
    )
    return found


def ledger_speed(document: Document) -> list[str]:
    """Milliseconds, and only those."""
    consensus = document["consensus"]
    if not consensus["decision_ms"]["count"]:
        return ["No batch was decided."]
    found = [
        f"A quorum of {document['quorum']} of {document['nodes']} members committed a batch within"
        f" {wording.milliseconds(consensus['decision_ms']['p50'])} (median) and"
        f" {wording.milliseconds(consensus['decision_ms']['p99'])} (99th percentile) of its proposal."
    ]
    if consensus["client_ms"]["count"]:
        found.append(
            f"Whoever submitted had the answer within {wording.milliseconds(consensus['client_ms']['p50'])} (median)"
            f" and {wording.milliseconds(consensus['client_ms']['p99'])} (99th percentile), counted from when it"
            " meant to submit."
        )
    if consensus["unanswered"]:
        found.append(
            f"{wording.count(consensus['unanswered'], 'request')} never got an answer; no latency counts them."
        )
    offered, committed = (
        document["throughput"][key] for key in ("offered_per_second", "committed_per_second")
    )
    if offered and committed and not arms(document):
        found.append(
            f"Offered {wording.digits(offered, 4)} requests a second, committed {wording.digits(committed, 4)}."
        )
    waits = document["processes"]["chain"].get("ledger_ms", {})
    if arms(document) and waits.get("count"):
        found.append(
            "All the ledger steps of one application together took"
            f" {wording.milliseconds(waits['p50'])} (median). That is the ledger's latency; the days above are spent"
            " elsewhere."
        )
    return found


def messages_exact(document: Document) -> str | None:
    """Whether the messages sent are those of the closed form, for a run of PBFT without view changes."""
    if document["protocol"] != "pbft" or not document["consensus"]["decided_batches"]:
        return None
    consensus = document["consensus"]
    expected = metrics.closed_form(document["nodes"], consensus["decided_batches"], consensus["transactions"])
    if all(consensus["messages"].get(kind, 0) == count for kind, count in expected.items()):
        return "The messages sent are exactly those that PBFT's normal case needs, kind by kind."
    if document["faults"] or consensus["view_changes"]:
        return "The messages sent differ from the closed form of the normal case, as faults make them."
    return "The messages sent differ from the closed form of the normal case."


def faults(document: Document) -> list[str]:
    """What was broken on purpose, and what became of the ledger meanwhile."""
    if not document["faults"]:
        return []
    listed = [
        f"{wording.fault(fault['what'], fault['who'], at_most=4)}, {_when(fault)}"
        for fault in document["faults"]
    ]
    safe = (
        "All checked invariants held throughout."
        if document["invariants"]["checked"] and not document["invariants"]["violations"]
        else ""
    )
    changes = f"View changes: {document['consensus']['view_changes']}."
    return [f"Broken on purpose: {'; '.join(listed)}. {changes} {safe}".rstrip()]


def frauds(document: Document) -> list[str]:
    """Caught, and then what was missed, without softening."""
    inside = [row for row in document["fraud"].values() if row["in_scope"]]
    outside = {kind: row for kind, row in document["fraud"].items() if not row["in_scope"] and row["missed"]}
    found = []
    if injected := sum(row["injected"] for row in inside):
        missed = injected - sum(row["caught"] for row in inside)
        found.append(
            f"{wording.count(injected, 'application')} carried a fraud or an error that a shared ledger can see. "
            + (
                "It caught all of them."
                if not missed
                else f"It caught {injected - missed:,} and missed {missed:,}."
            )
            + _why_missed(document, missed)
        )
    if outside:
        kinds = "; ".join(wording.FRAUD_NAMES.get(kind, kind).lower() for kind in outside)
        missed = sum(row["missed"] for row in outside.values())
        found.append(
            f"Missed: {wording.count(missed, 'application')} of kinds that no shared ledger can see ({kinds})."
            " Neither a chain nor a database catches these; whoever promises it promises too much."
        )
    if document["fraud"]:
        rejected = (
            wording.count(document["false_alarms"], "honest application")
            if document["false_alarms"]
            else "No honest one"
        )
        found.append(
            f"{rejected} was rejected." if document["false_alarms"] < 2 else f"{rejected} were rejected."
        )
    return found


def _why_missed(document: Document, missed: int) -> str:
    coverage = document["settings"].get("workload", {}).get("bank_coverage", 1.0)
    if not missed or coverage >= 1:
        return ""
    return f" Only {_per_cent(coverage)} of the banks are on the platform: what is financed elsewhere it does not see."


def certainty(document: Document) -> list[str]:
    """How much of this is measured, and how much put in."""
    if not arms(document):
        return []
    found = [
        "The paper arm is calibrated, not measured. No source gives the durations of its stages in Guizhou; they were"
        " chosen so that their sum lands on the few published totals (about a month for a new customer, two weeks or"
        " more for an existing one). An improvement against it is therefore partly an input. Read it as the result of"
        " this scenario, not as a finding about the world."
    ]
    bands_of = document["processes"]["sensitivity"]
    for arm, ends in [(arm, bands_of[arm]) for arm in metrics.ARMS if arm in bands_of]:
        bands = [
            f"{_days(ends['low'][key])} to {_days(ends['high'][key])} for {CUSTOMERS[key]}"
            for key in CUSTOMERS
            if (ends.get("low") or {}).get(key) is not None and (ends.get("high") or {}).get(key) is not None
        ]
        if bands:
            found.append(
                f"{wording.arm(arm)}: with every low-confidence stage at its low and then at its high end the median"
                f" goes from {' and from '.join(bands)}."
            )
    return found


def _median(document: Document, arm: str, *keys: str) -> float | None:
    """The median of the first of these distributions that has any values."""
    for key in keys:
        value = document["processes"][arm][key]["p50"]
        if value is not None:
            return float(value)
    return None


def _days(days: float) -> str:
    number, unit = wording.duration(days).rsplit(" ", 1)
    spoken = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}.get(unit, unit)
    return f"{number} {spoken}"


def _small(value: float) -> str:
    return "less than 0.01" if value < 0.01 else f"{value:.2g}"


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _when(fault: Mapping[str, Any]) -> str:
    begin, end = fault["begin_seconds"], fault["end_seconds"]
    long = "to the end" if end is None else f"for {wording.duration((end - begin) / 86_400)}"
    return f"from {_clock(begin)} {long}"


def _clock(seconds: float) -> str:
    """When in the run: "day 3, 10:15"; seconds in the first hour, where a day's clock says too little."""
    if seconds < 3600:
        return f"second {seconds:g}"
    minutes = int(seconds // 60)
    return f"day {minutes // 1440 + 1}, {minutes % 1440 // 60:02d}:{minutes % 60:02d}"
