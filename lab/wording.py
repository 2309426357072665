"""What things are called in front of a reader: arms, stages, frauds, messages. One name each, in figures
and report.
"""

from __future__ import annotations

ARM_NAMES = {"paper": "Paper", "database": "Central database", "chain": "Consortium chain"}

STAGE_NAMES = {
    "B1": "Onboarding, due diligence, credit line (new firms)",
    "B2": "Exporter assembles the papers",
    "B3": "Delivery to the counter, intake queue",
    "B4": "Authenticity check and document review",
    "B5": "Duplicate enquiry between banks",
    "B6": "On-site verification",
    "B7": "Returned for correction, reviewed again",
    "B8": "Drawdown approval",
    "B9": "Contract and pledge registration",
    "B10": "Disbursement",
    "D1": "Onboarding with shared attestations (new firms)",
    "D2": "Exporter selects declarations, consents, submits",
    "D3": "Ledger verifies and reserves headroom",
    "D4": "Bank officer's review",
    "D5": "Exception: mismatch or above the limit",
    "D6": "Disbursement",
}

FRAUD_NAMES = {
    "F1": "Same declaration at two banks, one after the other",
    "F2": "Same declaration at two banks at the same moment",
    "F3": "Over-financing at one bank",
    "F4": "Many small draws past the cap",
    "F5": "Forged declaration",
    "F6": "Altered amount or other field",
    "F7": "Near-duplicate invoice",
    "F8": "Expired, withdrawn or import declaration",
    "F9": "Declaration amended down after the loan",
    "F10": "Another firm's declaration",
    "F11": "Replayed transaction, retry storm",
    "F12": "Unauthorised submitter or revoked key",
    "F13": "No consent, or identity check expired",
    "F14": "Over-repayment, bad amount",
    "F15": "Fake repayment to free headroom",
    "F16": "Reservation squatting",
    "F17": "Lender outside the platform",
    "F18": "Fictitious trade with genuine papers",
    "F19": "Over- or under-invoicing at origin",
    "F20": "Byzantine bank validator",
    "F21": "Corrupted data-feed key",
    "F22": "Clock skew, holiday edge",
    "F23": "Human error: currency, decimal slip, wrong firm",
}


def arm(name: str) -> str:
    """ "Paper", "Central database", "Consortium chain"; another arm under its own name."""
    return ARM_NAMES.get(name, name)


def stage(code: str) -> str:
    """ "B2  Exporter assembles the papers"."""
    return f"{code}  {STAGE_NAMES[code]}" if code in STAGE_NAMES else code


def fraud(kind: str) -> str:
    """ "F5  Forged declaration"."""
    return f"{kind}  {FRAUD_NAMES[kind]}" if kind in FRAUD_NAMES else kind


def member(node: str) -> str:
    """ "commercial bank 2" for "commercial_bank.2"."""
    return node.replace("_", " ").replace(".", " ")


def members(who: str, at_most: int = 2) -> str:
    """ "commercial bank 2", "policy bank and commercial bank 1", "administrator and 3 more"."""
    names = [member(name.strip()) for name in who.replace("|", ",").split(",")]
    if len(names) > at_most:
        return f"{names[0]} and {len(names) - 1} more"
    return " and ".join(names)


def fault(what: str, who: str, at_most: int = 2) -> str:
    """ "crash of commercial bank 2", "policy bank cut off"; an unknown kind of fault under its own name."""
    names = members(who, at_most) if who else "all members"
    groups = [members(group, at_most) for group in who.split("|")]
    if what.startswith("byzantine "):
        return f"{names} misbehaving ({what.removeprefix('byzantine ')})"
    return {
        "crash": f"crash of {names}",
        "partition": " parted from ".join(groups) if len(groups) > 1 else f"{names} cut off",
        "one_way": " not heard by ".join(groups),
        "slow": f"slow links of {names}",
        "drift": f"timers of {names} running wrong",
        "duplicate": f"duplicated messages of {names}",
        "reorder": f"reordered messages of {names}",
        "spike": f"delay spikes on messages of {names}",
    }.get(what, f"{what} of {names}")


def count(number: int, one: str, many: str = "") -> str:
    """ "1 request", "1,234 requests"; *many* where it is not *one* with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(days: float) -> str:
    """A length of time with the unit that a person would choose: 12 s, 25 min, 3.4 h, 2.8 d."""
    seconds = days * 86_400
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 6 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{days:.1f} d"


def milliseconds(value: float) -> str:
    """ "83 ms", "1.2 s", "19 min": three figures are enough to read, the document has the rest."""
    if value >= 90_000:
        return duration(value / 86_400_000)
    return f"{value:.3g} ms" if value < 999.5 else f"{value / 1000:.3g} s"


def rate(per_second: float) -> str:
    """ "0.79 transactions a second"; "6.2 transactions a day" where there is not one in ten seconds."""
    if per_second < 0.1:
        return f"{digits(per_second * 86_400, 4)} transactions a day"
    return f"{digits(per_second, 4)} transactions a second"


def digits(value: float, count: int, sign: str = "") -> str:
    """So many digits that count, or all that stand before the point: of four 0.1234, 123.4, 12,345."""
    return f"{value:{sign},.0f}" if abs(value) >= 10 ** (count - 1) else f"{value:{sign},.{count}g}"


def figure(key: str) -> str:
    """A figure's key in words: consensus.client_ms.p99 -> "client, p99 (ms)"; throughput.committed_per_second ->
    "committed a second"."""
    parts = key.split(".")[1:] or [key]
    for ending, unit in (("_ms", "ms"), ("_days", "days")):
        for place, part in enumerate(parts):
            if part.endswith(ending) and not part.startswith("within_"):  # within_7_days is a share
                parts[place] = part.removesuffix(ending)
                return f"{', '.join(parts).replace('_', ' ')} ({unit})"
    return ", ".join(parts).replace("_per_second", " a second").replace("_", " ")
