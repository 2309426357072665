"""docs/ledger.md, written from the tables the ledger runs on, so that the page cannot drift from the code.

python -m tradebft.chain.rules.describe > docs/ledger.md
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from tradebft.chain.rules import states
from tradebft.chain.rules.context import CODES
from tradebft.chain.rules.invariants import NAMES
from tradebft.chain.rules.objects import FIRM, ROLES
from tradebft.chain.rules.parameters import BOUNDS, Parameters
from tradebft.chain.rules.table import RULES

_MAY = {
    "REGULATOR": "admits members, sets parameters, freezes, audits; sees everything. Also the portal for firms",
    "BANK": "attests KYC, verifies, reserves, approves, pays out, books repayment; sees its own customers",
    "CUSTOMS": "signs declarations, amendments and withdrawals",
    "TAX": "signs tax filings",
    "INSURER": "signs export credit insurance policies",
    "AUDITOR": "reads, on record",
    "FIRM": "consents, registers invoices, applies, withdraws; signs through its bank or the portal",
}

_FRAUDS = (
    ("F1", "one declaration at two banks, one after the other", "E_HEADROOM", "yes, if both are members"),
    ("F2", "the same at one moment: two reservations in one block", "E_HEADROOM for exactly one", "yes"),
    ("F3", "more than the cap at a single bank", "E_HEADROOM", "yes"),
    ("F4", "many small loans; rounding and currency games", "E_HEADROOM", "yes"),
    ("F5", "a forged declaration", "E_SIG, E_ROLE, E_DECL_UNKNOWN", "yes; no if customs was lied to"),
    ("F6", "papers that disagree with what customs signed", "E_MISMATCH with the fields", "yes"),
    ("F7", "a duplicate or slightly altered invoice", "E_DUP_INVOICE; alert NEAR_DUPLICATE", "partly"),
    ("F8", "an old, withdrawn or import declaration", "E_DECL_AGE, _STATUS, _DIRECTION", "yes"),
    ("F9", "a declaration amended down after the loan", "alert SHORTFALL, never negative", "yes"),
    ("F10", "another firm's declaration", "E_DECL_OWNER", "yes"),
    (
        "F11",
        "replay, retry storm, other chain, old height",
        "first receipt again; E_REPLAY, E_EXPIRED_TX",
        "yes",
    ),
    ("F12", "unauthorised sender, revoked key, one officer alone", "E_ROLE, E_SIG, E_MAKER_CHECKER", "yes"),
    ("F13", "no consent, consent revoked, KYC run out", "E_CONSENT, E_KYC", "yes"),
    ("F14", "repayments that cannot be", "E_OUTSTANDING, E_AMOUNT", "yes"),
    ("F15", "a false repayment to free headroom", "policy I7; alerts", "partly: a colluding bank can lie"),
    ("F16", "squatting on reservations", "released after its time; E_TTL for repeaters", "yes"),
    ("F17", "a lender off the platform", "not seen", "no"),
    ("F18", "fictitious trade with genuine declarations", "not seen", "no"),
    ("F19", "a wrong price at origin", "not seen", "no"),
    ("F21", "a corrupted customs key", "key revoked, anchors since then frozen (E_FROZEN)", "partly"),
    ("F22", "clocks that disagree", "deadlines go by the block's time", "yes"),
    ("F23", "slips of the pen", "as F6 and F11", "yes"),
)


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(
        [
            "# The ledger",
            "",
            "Written by `python -m tradebft.chain.rules.describe` from the tables the ledger runs on.",
            "Objects, transaction types, codes and invariants follow the project's study of the domain; what no",
            "source publishes is a policy of this project and a parameter below.",
            *_section("Roles", ("role", "may"), ((role, _MAY[role]) for role in (*ROLES, FIRM))),
            *_section("Transaction types", ("no.", "type", "sent by", "what"), _types()),
            "",
            "Type 23 (letters of credit) is not built. Every transaction also carries chain id, version, sender,",
            "sequence number, expiry height, the client's time, the payload's hash and signatures. A rejected",
            "transaction leaves a receipt, an audit record and a used sequence number, and nothing else.",
            *_section("Rejection codes", ("code", "meaning"), CODES.items()),
            "",
            "## A financing's life",
            "",
            *_diagram(),
            "",
            "FROZEN may be entered from any state that is not final, and is left to the state before. A frozen",
            "loan may be repaid.",
            *_section("Parameters", ("name", "default", "bounds"), _parameters()),
            *_section("Invariants", ("id", "what holds"), NAMES.items()),
            "",
            "I16, that what a quorum committed is never lost or reordered, is checked with consensus.",
            *_section(
                "Frauds and errors", ("id", "what", "what happens", "caught by the chain alone"), _FRAUDS
            ),
            "",
            "F20, a Byzantine bank among the validators, is a matter of consensus.",
            "",
        ]
    )


def _section(title: str, head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = ["", f"## {title}", "", _row(head), _row("---" for _ in head)]
    return [*lines, *(_row(row) for row in rows)]


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _types() -> Iterable[tuple[object, ...]]:
    for name, rule in RULES.items():
        anyone = rule.roles >= {*ROLES, FIRM}
        sent_by = "anyone" if anyone else ", ".join(r for r in (*ROLES, FIRM) if r in rule.roles)
        text = " ".join((rule.payload.__doc__ or "").split())
        yield rule.number, f"`{name}`", sent_by, text.partition(". ")[2]


def _diagram() -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> DRAFT"]
    for state, row in states.TRANSITIONS.items():
        lines += [f"    {state} --> {to}: {event}" for event, to in row.items()]
        if not row:
            lines.append(f"    {state} --> [*]")
    return [*lines, "```"]


def _parameters() -> Iterable[tuple[object, ...]]:
    defaults = Parameters()
    for field in msgspec.structs.fields(Parameters):
        if field.name == "version":
            continue
        value = getattr(defaults, field.name)
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        low_high = BOUNDS.get(field.name)
        yield f"`{field.name}`", text, f"{low_high[0]} to {low_high[1]}" if low_high else ""


if __name__ == "__main__":
    print(page(), end="")
