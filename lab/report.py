"""The report: one HTML file with everything in it, for a reader who has neither the program nor the network."""

from __future__ import annotations

from functools import cache
from typing import Any

from markupsafe import Markup
from tradebft.chain.rules.context import CODES
from tradebft.lab import findings, provenance, wording
from tradebft.lab.figures import CAPTIONS

SECTIONS = {
    "days": ("days_per_arm", "where_days_go"),
    "frauds": ("frauds_by_kind", "frauds_by_coverage"),
    "ledger": ("points", "commit_latency", "one_round", "messages_by_kind", "network_map"),
}


def html(document: dict[str, Any], drawings: dict[str, str]) -> str:
    """The report as text. `drawings` are SVG files by the names of `figures.FIGURES`; missing ones are left out."""
    return str(_template("report.html.j2").render(**_context(document), **_figures(drawings)))


def summary_html(document: dict[str, Any]) -> str:
    """A small table for a notebook."""
    return str(_template("summary.html.j2").render(**_context(document)))


def command(document: dict[str, Any]) -> str:
    """The line that runs this again. The resolved scenario beside the report is the exact one."""
    bus = f" --bus {document['bus']}" if findings.real(document) else ""
    return f"tradebft run scenario.toml --seed {document['seed']}{bus}"


def citation(document: dict[str, Any]) -> str:
    """One line to put below a figure."""
    which = f"trace digest {document['trace_digest'] or 'none'}"
    if findings.real(document):
        which = f"in real time over the {document['bus']} bus"
    return (
        f"tradebft {document['version']}, scenario {document['scenario']}, seed {document['seed']}, {which}"
    )


def arm_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One row an arm, ready to print: name, days of both kinds of customers, share within a week, frauds paid out."""
    rows = []
    for arm in findings.arms(document):
        entry = document["processes"][arm]
        share = entry["within_7_days"]
        rows.append(
            {
                "arm": arm,
                "name": wording.arm(arm),
                "new": interval(entry["new_customer_days"]),
                "existing": interval(entry["existing_customer_days"]),
                "within": "-" if share is None else f"{100 * share:.0f} %",
                "band": _band(document, arm),
                "disbursed": f"{entry['disbursed']:,}",
                "frauds": f"{entry['frauds_disbursed']:,} of {entry['frauds']:,}" if entry["frauds"] else "-",
            }
        )
    return rows


def interval(distribution: dict[str, Any]) -> str:
    """ "28.8 d (20.1 d to 42.0 d)": median and P10 to P90, "-" for a distribution of nothing."""
    if not distribution["count"]:
        return "-"
    middle, low, high = (wording.duration(distribution[key]) for key in ("p50", "p10", "p90"))
    return f"{middle} ({low} to {high})"


def _band(document: dict[str, Any], arm: str) -> str:
    ends = document["processes"]["sensitivity"].get(arm, {})
    key = (
        "new_customer_days"
        if document["processes"][arm]["new_customer_days"]["count"]
        else "existing_customer_days"
    )
    low, high = ((ends.get(end) or {}).get(key) for end in ("low", "high"))
    return "-" if low is None or high is None else f"{wording.duration(low)} to {wording.duration(high)}"


def _context(document: dict[str, Any]) -> dict[str, Any]:
    arms = arm_rows(document)
    stages = provenance.stages() if arms else []
    return {
        "d": document,
        "alarms": findings.alarms(document),
        "headline": findings.headline(document),
        "month": findings.month(document),
        "saved": findings.what_saves_the_days(document),
        "certainty": findings.certainty(document),
        "fraud_text": findings.frauds(document),
        "ledger_text": findings.ledger_speed(document),
        "exact": findings.messages_exact(document),
        "faults": findings.faults(document),
        "arms": arms,
        "frauds": [
            {"name": wording.fraud(kind), **row} for kind, row in document["fraud"].items() if row["injected"]
        ],
        "rejections": [(code, CODES.get(code, ""), n) for code, n in document["ledger"]["rejected"].items()],
        "latencies": _latencies(document),
        "stages": stages,
        "sources": provenance.sources(stages),
        "assumed": provenance.assumed_settings(document["settings"]),
        "question": document["settings"].get("question", ""),
        "citation": citation(document),
        "command": command(document),
        "violations": wording.count(len(document["invariants"]["violations"]), "violation"),
        "real": findings.real(document),
        "lasted": wording.duration(document["virtual_seconds"] / 86_400),
    }


def _latencies(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    names = {
        "decision_ms": "Decision: a quorum has committed",
        "all_commit_ms": "Every live honest replica has committed",
        "client_ms": "Client: f + 1 matching replies",
    }
    return [
        (name, document["consensus"][key])
        for key, name in names.items()
        if document["consensus"][key]["count"]
    ]


def _figures(drawings: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    numbers = {name: index for index, name in enumerate(drawings, start=1)}
    return {
        f"{section}_figures": [
            {
                "number": numbers[name],
                "caption": CAPTIONS[name],
                "svg": _inline(drawings[name], CAPTIONS[name]),
            }
            for name in names
            if name in drawings
        ]
        for section, names in SECTIONS.items()
    }


def _inline(svg: str, caption: str) -> Markup:
    """The SVG element without the file's head, sized by the page and named for those who listen to it."""
    element = svg[svg.index("<svg") :]
    label = Markup.escape(caption)
    return Markup(element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tradebft.lab", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ms"] = lambda value: "-" if value is None else f"{value:,.2f}"
    return environment.get_template(name)


assert set(CAPTIONS) == {name for names in SECTIONS.values() for name in names}, "a figure without a section"
