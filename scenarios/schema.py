"""The typed scenario: everything a run depends on, checked before anything starts.

`load("guizhou")` or `load("my.toml", {"consensus.batch_size": 10})` gives a frozen `Scenario`, or raises
`ScenarioError` whose text is one line: file, line, field, what was expected, what was found and the nearest
name. Virtual time 0 is 00:00 of `start`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError
from tradebft.scenarios import units
from tradebft.scenarios.adversaries import Byzantine
from tradebft.scenarios.demand import CustomWorkload, Policy, Synthetic, TradeFinance, Workload
from tradebft.scenarios.errors import Problem, ScenarioError
from tradebft.scenarios.expect import Value, flatten
from tradebft.scenarios.membership import MemberChange
from tradebft.scenarios.sections import (
    FAULT_KINDS,
    Consensus,
    ConstantLinks,
    CpuCosts,
    CustomLinks,
    DistanceLinks,
    Fault,
    Graph,
    Links,
    LognormalLinks,
    Members,
    Network,
    Nodes,
    NormalLinks,
    Section,
    UniformLinks,
)

__all__ = [
    "Byzantine",
    "Consensus",
    "ConstantLinks",
    "CpuCosts",
    "CustomLinks",
    "CustomWorkload",
    "DistanceLinks",
    "Fault",
    "Graph",
    "Links",
    "LognormalLinks",
    "Members",
    "Network",
    "Nodes",
    "NormalLinks",
    "Policy",
    "Scenario",
    "ScenarioError",
    "Synthetic",
    "TradeFinance",
    "UniformLinks",
    "Workload",
    "load",
]

LAUNCH = datetime.date(2020, 7, 15)  # Guizhou's platform, first case in mid-July 2020 [S4]


def _date(value: object) -> object:
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date | str):
        raise ValueError(f"expected a date such as 2020-07-15; found {value!r}")
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"expected a date such as 2020-07-15; found {value!r}") from None


def _tags(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _lists(table: object) -> object:
    flat = flatten(table)
    if not isinstance(flat, dict):
        return flat
    return {key: tuple(value) if isinstance(value, list) else value for key, value in flat.items()}


class Scenario(Section):
    """One experiment, complete: the same scenario, seed and version give the same result anywhere."""

    name: str = Field(default="scenario", min_length=1, description="short name; default: the file's name")
    title: str = Field(default="", description="one line for people")
    question: str = Field(
        default="", description="the question it answers; default: the file's opening comment"
    )
    tags: Annotated[tuple[str, ...], BeforeValidator(_tags)] = Field(
        default=(), description="free words to find it by"
    )
    seed: int = Field(default=1, ge=0, lt=2**64, description="every random draw is a function of this number")
    days: int | None = Field(
        default=None,
        ge=1,
        le=3660,
        description="calendar days simulated; default 30 for trade finance; "
        "a synthetic run ends with its last reply, by default at most after 1 day",
    )
    start: Annotated[datetime.date, BeforeValidator(_date)] = Field(
        default=LAUNCH, description="first day; default the launch of Guizhou's platform, 2020-07-15"
    )
    network: Network = Field(default_factory=Network, description="who takes part and how they are connected")
    nodes: Nodes = Field(default_factory=Nodes, description="what computing and signing costs")
    consensus: Consensus = Field(default_factory=Consensus, description="the protocol and its settings")
    workload: Workload = Field(description="what is submitted, and how fast")
    faults: Annotated[tuple[Fault, ...], BeforeValidator(_tags)] = Field(
        default=(), alias="fault", description="mishaps, one [[fault]] table each"
    )
    byzantine: Annotated[tuple[Byzantine, ...], BeforeValidator(_tags)] = Field(
        default=(), description="members and clients that misbehave, one [[byzantine]] table each"
    )
    membership: Annotated[tuple[MemberChange, ...], BeforeValidator(_tags)] = Field(
        default=(), description="changes of the members, one [[membership]] table each"
    )
    vary: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_lists)] = Field(
        default_factory=dict,
        description="after the run itself: one run for each of a list of values of a dotted key, of at most two keys "
        "(the second one makes the curves); synthetic load only",
    )
    repeats: int = Field(
        default=1, ge=1, le=1000, description="vary: how many seeds each point is run with, from `seed` on"
    )
    _at_points: list[str] = PrivateAttr(default_factory=list)
    expect: Annotated[dict[str, Value], BeforeValidator(flatten)] = Field(
        default_factory=dict,
        description="what must hold after the run: dotted path of the result -> condition",
    )

    @property
    def duration_ns(self) -> int:
        """Length of the simulated time in nanoseconds; a synthetic run may end before it."""
        default = 30 if isinstance(self.workload, TradeFinance) else 1
        return (self.days or default) * units.DAY_NS

    @property
    def members(self) -> Members | None:
        """Validators by role; None where replicas are anonymous (`network.nodes`, no trade finance)."""
        if self.network.nodes is None:
            return self.network.members or Members()
        if isinstance(self.workload, TradeFinance):
            return Members(commercial_bank=max(self.network.nodes - 2, 0))
        return None

    @property
    def node_names(self) -> list[str]:
        """Names of the replicas in consensus order: replica i is node_names[i]."""
        members = self.members
        if members is not None:
            return members.names()
        return [f"replica.{i}" for i in range(self.network.nodes or 0)]

    @property
    def faults_tolerated(self) -> int:
        """f = floor((n-1)/3)."""
        return (len(self.node_names) - 1) // 3

    @property
    def quorum(self) -> int:
        """q = ceil((n+f+1)/2)."""
        return math.ceil((len(self.node_names) + self.faults_tolerated + 1) / 2)

    def index(self, node: str) -> int:
        """Consensus index of a node named by its member id or as replica.N. KeyError for an unknown one."""
        names = self.node_names
        if node in names:
            return names.index(node)
        aliases = {f"replica.{i}": i for i in range(len(names))}
        return aliases[node]

    @property
    def warnings(self) -> list[str]:
        """What is allowed and probably not meant, one line each; where it varies, at its points as well (by `load`)."""
        return self.warnings_over("simulated")

    def warnings_over(self, bus: str) -> list[str]:
        """`warnings` of a run over *bus*."""
        from tradebft.scenarios.remarks import remarks

        return remarks(self, bus) + self._at_points

    def note_points(self, warnings: list[str]) -> None:
        """What its points' `warnings` are, for whoever looked at them."""
        self._at_points = warnings

    def resolved(self) -> dict[str, Any]:
        """The scenario with every default filled in, as JSON values under the keys of a file; loads again."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.network.nodes is None:
            document["network"]["members"] = (self.network.members or Members()).model_dump()
        for fault in document["fault"]:
            for kind in (*FAULT_KINDS, "of"):
                if not fault[kind]:
                    del fault[kind]
        return document

    def single(self) -> dict[str, Any]:
        """`resolved`, without what is about several runs or about judging one."""
        document = self.resolved()
        for key in ("vary", "repeats", "expect"):
            document.pop(key, None)
        return document

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        from tradebft.scenarios.consistency import problems

        found: list[Problem] = problems(self)
        if found:
            raise PydanticCustomError("inconsistent", "{text}", {"text": found[0].text, "problems": found})
        return self


def load(
    name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
) -> Scenario:
    """The scenario of that name in the catalogue, or at that path, with the overrides applied.

    `overrides` maps dotted keys to values; a text is read as a TOML value, and taken as it is when it is none
    (`{"consensus.batch_size": "10"}` is the number). `seed` wins over the file and the overrides.

    Raises:
        ScenarioError: one line that names the file, the field and what was expected.
    """
    from tradebft.scenarios.loading import load_scenario

    return load_scenario(name_or_path, overrides or {}, seed)
