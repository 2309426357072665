"""The kinds of workload a scenario can ask for, as frozen types: what is submitted, by whom and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from tradebft.scenarios.sections import ClassName, Period, Section, Share

if TYPE_CHECKING:
    from tradebft.scenarios.schema import Scenario

ARMS = ("paper", "database", "chain")

FRAUD_CASES = {
    "F1": "one declaration financed at two banks, one after the other",
    "F2": "one declaration financed at two banks at the same moment",
    "F3": "more than the declaration allows, at one bank",
    "F4": "many small draws that together exceed the cap",
    "F5": "forged declaration",
    "F6": "altered amount or field that does not match the declaration",
    "F7": "near-duplicate invoice: a typo, a space, a suffix",
    "F8": "expired, withdrawn or import declaration",
    "F9": "declaration amended down after the loan",
    "F10": "another firm's declaration",
    "F11": "replay or retry storm",
    "F12": "unauthorised submitter, revoked key, role escalation",
    "F13": "no consent, consent revoked, or know-your-customer check expired",
    "F14": "over-repayment, repeated payment reference, impossible amount",
    "F15": "fake repayment to free headroom, then financing again",
    "F16": "reservation squatting: reserve and never disburse",
    "F17": "a lender off the platform finances the same declaration",
    "F18": "fictitious or round-trip trade with genuine declarations",
    "F19": "over- or under-invoicing at the origin",
    "F21": "declarations signed with a corrupted customs key",
    "F22": "clock skew and deadlines on a holiday's edge",
    "F23": "human error: currency, decimal point, duplicate, wrong firm",
}
"""What `[workload.fraud]` may name. F20, a Byzantine bank, is a matter of consensus, not of applications."""

FRAUD_GROUPS = (
    "duplicate_cross_bank",
    "over_headroom",
    "amount_mismatch",
    "forged_declaration",
    "expired_or_cancelled",
    "unauthorised",
    "replay_or_retry",
    "unknown_firm",
)
"""The published groups of the mix; a group's rate is divided among its cases."""


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Arms = Annotated[tuple[Literal["paper", "database", "chain"], ...], BeforeValidator(_as_tuple)]
Shares = Annotated[tuple[Share, ...], BeforeValidator(_as_tuple)]


class Synthetic(Section):
    """Requests without meaning, for oracles, tuning and stress."""

    kind: Literal["synthetic"]
    transactions: int = Field(default=1000, ge=1, le=10**9, description="requests in all")
    arrival: Literal["closed", "open"] = Field(
        default="closed",
        description='"closed": a client sends its next request when an earlier one is answered; '
        '"open": requests come at a rate, answered or not',
    )
    rate: float | None = Field(
        default=None, ge=1e-9, le=1e9, description="open: requests a second, of all clients together"
    )
    spacing: Literal["poisson", "even"] = Field(default="poisson", description="open: random or equal gaps")
    clients: int = Field(default=1, ge=1, le=1_000_000, description="number of clients")
    outstanding: int = Field(default=1, ge=1, description="closed: requests a client keeps in flight")
    payload_bytes: int = Field(
        default=0, ge=0, le=16 * 2**20, description="bytes of each request's operation"
    )


class Policy(Section):
    """Rules which the platform's operator has not published, for export receivables: policies of this project."""

    ratio_bp: int = Field(
        default=9000,
        ge=1,
        le=10000,
        description="share of a declaration's value that may be financed, in basis points; "
        "banks advance 70 to 90 % [S67]",
    )
    maximum_age_days: int = Field(
        default=180,
        ge=1,
        le=3660,
        description="oldest declaration financed, in days since export (assumption)",
    )
    reservation_ttl_ns: Period = Field(
        default=10 * 86_400 * 10**9,
        alias="reservation_ttl",
        description="headroom that is reserved and not drawn is freed after this (assumption)",
    )
    recycle: bool = Field(
        default=False,
        description="a repayment out of the firm's own funds restores the declaration's headroom (assumption)",
    )
    invoice_strict: bool = Field(
        default=True,
        description="an invoice is financed by one bank at a time; false: by several, up to its amount (assumption)",
    )


class TradeFinance(Section):
    """Firms asking banks for money against customs declarations; every arm sees the same applications."""

    kind: Literal["trade-finance"]
    arms: Arms = Field(
        default=("paper", "database", "chain"), min_length=1, description="the ways of working to compare"
    )
    firms: int = Field(default=1500, ge=1, le=1_000_000, description="exporting firms")
    banks: int = Field(
        default=15, ge=1, le=1000, description="banks that lend to them, on the platform or not"
    )
    bank_coverage: Share = Field(
        default=1.0, description="share of these banks that are on the platform, 0 to 1"
    )
    financings_per_workday: float = Field(
        default=30.0, gt=0, le=1e6, description="applications on a mean workday"
    )
    declarations_per_workday: float = Field(
        default=670.0, ge=0, le=1e7, description="customs declarations on a mean workday, financed or not"
    )
    anchor_all_declarations: bool = Field(
        default=True, description="customs anchors every declaration, not only those that are financed"
    )
    new_customer_share: Share = Field(
        default=0.2, description="share of applications by firms new to their bank (assumption)"
    )
    officers_per_bank: int = Field(
        default=8,
        ge=1,
        le=10_000,
        description="officers who handle applications (assumption: the busiest bank has no standing queue)",
    )
    default_fraud: bool = Field(
        default=True,
        description="inject the published mix of frauds and errors; false: only what [workload.fraud] names",
    )
    fraud: dict[str, Share] = Field(
        default_factory=dict,
        description="rates of frauds and errors as shares of applications, by case (F1 to F23) or by group",
    )
    coverage_points: Shares = Field(
        default=(),
        description="values of bank_coverage at which the same applications are judged once more, "
        "for the figure of frauds missed by coverage",
    )
    sensitivity: bool = Field(
        default=True,
        description="also compute the days with every low-confidence stage at its low and its high end",
    )
    policy: Policy = Field(default_factory=Policy, description="rules of the platform")


GATEWAYS: Final = ("administrator", "customs")
"""Who submits to the chain beside the banks on the platform."""


def bank_names(scenario: Scenario, workload: TradeFinance) -> list[str]:
    """Lenders: the validators' banks first, then commercial banks that run no validator."""
    validators = [name for name in scenario.node_names if name != "administrator"][: workload.banks]
    further = workload.banks - len(validators)
    last = sum(name.startswith("commercial_bank") for name in validators)
    return validators + [f"commercial_bank.{last + k}" for k in range(1, further + 1)]


class CustomWorkload(BaseModel):
    """A workload of your own: a class `module:Class`, called with every other key of the table as keyword."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    kind: ClassName

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class UnknownWorkload(CustomWorkload):
    """Only here to refuse a kind nobody knows, at the key where it stands; never made."""

    kind: Literal["synthetic", "trade-finance"] = Field(
        description='one of synthetic, trade-finance or a class of your own as "module:Class"'
    )


def _workload_tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    if kind in ("synthetic", "trade-finance"):
        return f"<{kind}>"
    return "<custom>" if isinstance(kind, str) and ":" in kind else "<unknown>"


Workload = Annotated[
    Annotated[Synthetic, Tag("<synthetic>")]
    | Annotated[TradeFinance, Tag("<trade-finance>")]
    | Annotated[CustomWorkload, Tag("<custom>")]
    | Annotated[UnknownWorkload, Tag("<unknown>")],
    Discriminator(_workload_tag),
]
