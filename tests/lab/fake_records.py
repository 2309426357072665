"""Records that look like a run's, made without running anything: for tests of what `lab` makes of them.

The shapes follow the domain's figures (a paper month, a digital week, consensus in tens of milliseconds),
so that a figure drawn from them shows the same difficulties as a real one: long tails, bars of minutes
beside bars of days.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from tradebft.scenarios import records as contract
from tradebft.scenarios.records import Records, table

DAY_NS = 86_400 * 10**9
HOUR_NS = 3600 * 10**9
MEMBERS = ["administrator", "policy_bank", *[f"commercial_bank.{i}" for i in range(1, 6)]]
PLACES = {
    "administrator": ("Guiyang", 26.65, 106.63),
    "policy_bank": ("Guiyang", 26.65, 106.63),
    "commercial_bank.1": ("Guiyang", 26.65, 106.63),
    "commercial_bank.2": ("Zunyi", 27.73, 106.93),
    "commercial_bank.3": ("Liupanshui", 26.59, 104.83),
    "commercial_bank.4": ("Anshun", 26.25, 105.95),
    "commercial_bank.5": ("Tongren", 27.73, 109.19),
}
MEAN_DAYS = {
    "paper": [
        ("B1", 16.0, 0.6),
        ("B2", 5.4, 0.0),
        ("B3", 0.9, 0.7),
        ("B4", 2.8, 0.5),
        ("B5", 0.8, 0.2),
        ("B6", 1.6, 0.3),
        ("B7", 4.4, 0.5),
        ("B8", 2.1, 0.6),
        ("B9", 0.8, 0.3),
        ("B10", 0.5, 0.4),
    ],
    "digital": [
        ("D1", 4.4, 0.3),
        ("D2", 0.02, 0.0),
        ("D3", 0.0, 0.0),
        ("D4", 0.3, 0.95),
        ("D5", 1.6, 0.4),
        ("D6", 0.02, 0.3),
    ],
}
SHARE = {"B5": 0.8, "B6": 0.3, "B7": 0.35, "D5": 0.10}
FRAUDS = {
    "F1": (9, True),
    "F2": (4, True),
    "F3": (11, True),
    "F5": (3, True),
    "F6": (18, True),
    "F8": (8, True),
    "F10": (5, True),
    "F12": (4, True),
    "F13": (4, True),
    "F11": (19, True),
    "F17": (6, False),
    "F18": (4, False),
    "F19": (5, False),
}
RULES = {
    "F1": "E_HEADROOM",
    "F2": "E_HEADROOM",
    "F3": "E_HEADROOM",
    "F5": "E_DECL_UNKNOWN",
    "F6": "E_MISMATCH",
}


def trade_records(
    *, seed: int = 1, applications: int = 600, complete: bool = True, faults: bool = False
) -> Records:
    """A month of Guizhou: three arms, seven members, frauds."""
    random = np.random.default_rng(seed)
    apps, stages = _applications(random, applications)
    decisions, requests = _commits(random, 4000, 30 * DAY_NS, len(MEMBERS))
    batches = decisions.height
    made = Records(
        scenario={
            "title": "Guizhou: a month of trade finance, on paper, on a database, on a chain",
            "days": 30,
            "network": {"links": {"model": "distance"}},
            "workload": {"kind": "trade-finance", "bank_coverage": 1.0},
            "fault": [{"at": "day 3", "crash": "commercial_bank.2", "for": "2 h"}] if faults else [],
        },
        name="guizhou",
        seed=seed,
        protocol="pbft",
        bus="simulated",
        engine="reference",
        nodes=list(MEMBERS),
        quorum=5,
        faults_tolerated=2,
        complete=complete,
        places=dict(PLACES),
        edges=_mesh(MEMBERS),
        virtual_ns=75 * DAY_NS,
        wall_seconds=21.4,
        trace_digest="5a0e" * 8,
        messages=_closed_form(7, batches, 4000) | {"Checkpoint": 1302},
        bytes_sent=74_213_456,
        view_changes=1 if faults else 0,
        decisions=decisions,
        requests=requests,
        applications=apps,
        stages=stages,
        round=round_of(MEMBERS, random),
        sensitivity=_sensitivity(),
        ledger={
            "height": batches,
            "state_root": "c3" * 32,
            "accepted": 3921,
            "rejected": {"E_HEADROOM": 24, "E_MISMATCH": 18, "E_DECL_UNKNOWN": 3, "E_REPLAY": 19},
        },
        fraud={
            kind: {
                "injected": n,
                "caught": n if inside else 0,
                "missed": 0 if inside else n,
                "in_scope": inside,
            }
            for kind, (n, inside) in FRAUDS.items()
        },
        coverage=_coverage(),
        invariants_checked=[
            "agreement",
            "total order",
            "validity",
            "exactly-once",
            "state roots",
            "certificates",
        ],
    )
    if faults:
        made.faults = [(3 * DAY_NS, 3 * DAY_NS + 2 * HOUR_NS, "crash", "commercial_bank.2")]
    return made


def synthetic_records(*, seed: int = 1, nodes: int = 16, transactions: int = 500) -> Records:
    """One decision at a time over normal links of 250 ms: no applications, no ledger, no places."""
    random = np.random.default_rng(seed)
    names = [f"replica.{i}" for i in range(nodes)]
    decisions, requests = _commits(
        random, transactions, transactions * 1_250_000_000, nodes, link_ms=250.0, batch=1
    )
    return Records(
        scenario={
            "title": "one decision at a time",
            "network": {"nodes": nodes},
            "workload": {"kind": "synthetic"},
        },
        name="synthetic",
        seed=seed,
        protocol="pbft",
        bus="simulated",
        engine="reference",
        nodes=names,
        quorum=-(-(nodes + (nodes - 1) // 3 + 1) // 2),
        faults_tolerated=(nodes - 1) // 3,
        edges=_mesh(names),
        virtual_ns=transactions * 1_250_000_000,
        wall_seconds=1.9,
        trace_digest="77aa" * 8,
        messages=_closed_form(nodes, transactions, transactions),
        bytes_sent=31_000_000,
        decisions=decisions,
        requests=requests,
        round=round_of(names, random, link_ms=250.0, spread_ms=50.0),
        invariants_checked=["agreement", "total order"],
    )


def round_of(
    names: list[str], random: np.random.Generator, link_ms: float = 6.0, spread_ms: float = 3.0
) -> pl.DataFrame:
    """One PBFT round with independent delays, as the order of the protocol has it."""
    n = len(names)
    quorum = -(-(n + (n - 1) // 3 + 1) // 2)
    rows: list[tuple[Any, ...]] = []

    def send(kind: str, sender: int, at: float, receivers: list[int]) -> dict[int, float]:
        arrivals = {}
        for receiver in receivers:
            arrivals[receiver] = at + max(0.3, random.normal(link_ms, spread_ms))
            rows.append((kind, names[sender], names[receiver], _ns(at), _ns(arrivals[receiver]), 0, 1))
        return arrivals

    everyone = list(range(n))
    rows.append(("Request", "firm.17", names[0], 0, _ns(link_ms), 0, 1))
    proposed = send("PrePrepare", 0, link_ms, everyone[1:])
    prepares: list[list[float]] = [[] for _ in everyone]
    for backup in everyone[1:]:
        prepares[backup].append(proposed[backup])
        for receiver, at in send(
            "Prepare", backup, proposed[backup], [i for i in everyone if i != backup]
        ).items():
            prepares[receiver].append(at)
    commits: list[list[float]] = [[] for _ in everyone]
    for replica in everyone:
        votes = sorted(prepares[replica])
        ready = max(proposed.get(replica, 0.0), votes[quorum - 2])
        commits[replica].append(ready)
        for receiver, at in send("Commit", replica, ready, [i for i in everyone if i != replica]).items():
            commits[receiver].append(at)
    for replica in everyone:
        done = sorted(commits[replica])[quorum - 1]
        rows.append(("Reply", names[replica], "firm.17", _ns(done), _ns(done + link_ms), 0, 1))
    return table(contract.ROUND_COLUMNS, rows)


def _applications(random: np.random.Generator, count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: list[tuple[Any, ...]] = []
    stages: list[tuple[Any, ...]] = []
    frauds = [kind for kind, (n, _) in FRAUDS.items() for _ in range(n)]
    for number in range(count):
        new = bool(random.random() < 0.3)
        kind = frauds[number] if number < len(frauds) else ""
        submitted = int(random.random() * 30 * DAY_NS)
        amount = int(random.lognormal(np.log(170_000), 1.6) * 100)
        for arm in ("paper", "database", "chain"):
            seed = np.random.default_rng((number, 0 if arm == "paper" else 1))
            at, spent = submitted, []
            for stage, mean, waiting in MEAN_DAYS["paper" if arm == "paper" else "digital"]:
                if (stage in ("B1", "D1") and not new) or seed.random() > SHARE.get(stage, 1.0):
                    continue
                length = int(seed.lognormal(np.log(max(mean, 1e-9)) - 0.125, 0.5) * DAY_NS)
                if stage == "D3":
                    length = 60_000_000 if arm == "chain" else 8_000_000
                spent.append((arm, number, stage, at, at + length, int(length * waiting)))
                at += length
            stages += spent
            caught = arm != "paper" and bool(kind) and FRAUDS[kind][1]
            code = RULES.get(kind, "E_REPLAY") if caught else ""
            outcome = "rejected" if caught else "disbursed"
            days = None if caught else (at - submitted) / DAY_NS
            ledger_ms = {"paper": None, "database": 8.0, "chain": 60.0 + float(seed.normal(0, 8))}[arm]
            bank = f"commercial_bank.{number % 5 + 1}"
            rows.append(
                (
                    *(arm, number, f"firm.{number % 97}", bank, True, new, "USD", amount, 1 + number % 6),
                    *(submitted, at, days, outcome, code, kind, ledger_ms),
                )
            )
    return table(contract.APPLICATION_COLUMNS, rows), table(contract.STAGE_COLUMNS, stages)


def _commits(
    random: np.random.Generator, count: int, span_ns: int, nodes: int, link_ms: float = 6.0, batch: int = 4
) -> tuple[pl.DataFrame, pl.DataFrame]:
    times = np.sort(random.random(count)) * span_ns
    decisions, requests = [], []
    for seq, first in enumerate(range(0, count, batch), start=1):
        group = times[first : first + batch]
        proposed = float(group[-1]) + link_ms * 1e6
        quorum = proposed + 3e6 * link_ms * random.lognormal(0, 0.18)
        everyone = quorum + 1e6 * link_ms * random.lognormal(-1, 0.5) * np.log(nodes)
        decisions.append((seq, 0, len(group), 400 * len(group), int(proposed), int(quorum), int(everyone)))
        for k in range(len(group)):
            submitted = int(group[-1])
            replied = int(quorum + link_ms * 1e6 * random.lognormal(0, 0.3))
            requests.append(
                (f"firm.{(first + k) % 97}", first + k, submitted, submitted, replied, seq, "FIN_APPLY", "OK")
            )
    return table(contract.DECISION_COLUMNS, decisions), table(contract.REQUEST_COLUMNS, requests)


def _closed_form(n: int, batches: int, transactions: int) -> dict[str, int]:
    return {
        "Request": transactions,
        "PrePrepare": batches * (n - 1),
        "Prepare": batches * (n - 1) ** 2,
        "Commit": batches * n * (n - 1),
        "Reply": transactions * n,
    }


def _sensitivity() -> dict[str, Any]:
    def medians(new: float, existing: float) -> dict[str, float]:
        return {"new_customer_days": new, "existing_customer_days": existing}

    return {
        "paper": {"low": medians(21.4, 11.2), "base": medians(29.6, 14.8), "high": medians(41.0, 20.3)},
        "database": {"low": medians(2.9, 0.2), "base": medians(4.4, 0.3), "high": medians(6.6, 0.4)},
        "chain": {"low": medians(2.9, 0.2), "base": medians(4.4, 0.3), "high": medians(6.6, 0.4)},
    }


def _coverage() -> list[dict[str, Any]]:
    rows = []
    for coverage in (0.0, 0.25, 0.5, 0.75, 1.0):
        for kind, (injected, inside) in FRAUDS.items():
            chance = coverage**2 if kind in ("F1", "F2") else coverage
            caught = round(injected * chance) if inside else 0
            rows.append(
                {
                    "coverage": coverage,
                    "kind": kind,
                    "injected": injected,
                    "caught": caught,
                    "missed": injected - caught,
                }
            )
    return rows


def _mesh(names: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
