"""The sections of a scenario file, as frozen types. docs/scenarios.md is generated from them.

Attributes in nanoseconds end in `_ns` and bandwidths in `_bps`; in the file the same keys are written
without the ending and with a unit (`view_change_timeout = "1 s"` is `view_change_timeout_ns`). A default
that no source supports says "assumption".
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    Tag,
)
from tradebft.scenarios import units

Duration = Annotated[
    int, BeforeValidator(units.duration_ns), PlainSerializer(units.duration_text, when_used="json")
]
Period = Annotated[
    int, BeforeValidator(units.period_ns), PlainSerializer(units.duration_text, when_used="json")
]
Moment = Annotated[
    int, BeforeValidator(units.moment_ns), PlainSerializer(units.duration_text, when_used="json")
]
Bandwidth = Annotated[
    int, BeforeValidator(units.bandwidth_bps), PlainSerializer(units.bandwidth_text, when_used="json")
]
Size = Annotated[int, BeforeValidator(units.size_bytes), PlainSerializer(units.size_text, when_used="json")]
Share = Annotated[float, Field(ge=0, le=1)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]

LINK_MODELS = ("constant", "uniform", "normal", "lognormal", "distance")
PROTOCOLS = ("pbft",)
WORKLOADS = ("synthetic", "trade-finance")


class Section(BaseModel):
    """A table of a scenario: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _names(value: object) -> object:
    """One node name or a list of them, as a tuple."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected a node name or a list of node names; found {value!r}")
    return tuple(names)


def _groups(value: object) -> object:
    """A list of node names, or a list of such lists, as a tuple of tuples."""
    if not isinstance(value, list | tuple) or (value and not isinstance(value[0], list | tuple)):
        return (_names(value),)
    return tuple(_names(group) for group in value)


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Groups = Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_groups)]


# ----------------------------------------------------------------------------------------------------- links


class ConstantLinks(Section):
    """Every message takes the same time."""

    model: Literal["constant"]
    delay_ns: Duration = Field(alias="delay", description="one-way delay")


class UniformLinks(Section):
    """Delays drawn evenly from an interval."""

    model: Literal["uniform"]
    low_ns: Duration = Field(alias="low", description="shortest one-way delay")
    high_ns: Duration = Field(alias="high", description="longest one-way delay")


class NormalLinks(Section):
    """Normally distributed delays; a draw below zero counts as zero."""

    model: Literal["normal"]
    mean_ns: Duration = Field(alias="mean", description="mean one-way delay")
    std_ns: Duration = Field(alias="std", description="standard deviation of the one-way delay")


class LognormalLinks(Section):
    """Lognormally distributed delays: a few messages take much longer than most."""

    model: Literal["lognormal"]
    median_ns: Duration = Field(alias="median", description="median one-way delay")
    sigma: float = Field(ge=0, le=5, description="standard deviation of the delay's natural logarithm")


class DistanceLinks(Section):
    """Delay from the great-circle distance between cities, at the speed of light in fibre, plus jitter."""

    model: Literal["distance"]
    route_factor: float = Field(
        default=1.6, ge=1, le=10, description="length of the fibre over the great circle (assumption)"
    )
    overhead_ns: Duration = Field(
        default=1 * units.MILLISECOND_NS,
        alias="overhead",
        description="fixed part: last mile and equipment, once a message (assumption)",
    )
    jitter_ns: Duration = Field(
        default=500 * units.MICROSECOND_NS,
        alias="jitter",
        description="mean of the exponentially distributed extra delay of each message (assumption)",
    )


class CustomLinks(BaseModel):
    """A link model of your own: a class `module:Class`, called with the table's other keys as keywords."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    model: ClassName

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class UnknownLinks(CustomLinks):
    """Only here to refuse a model nobody knows, at the key where it stands; never made."""

    model: Literal["constant", "uniform", "normal", "lognormal", "distance"] = Field(
        description='one of constant, uniform, normal, lognormal, distance or a class of your own as "module:Class"'
    )


def _link_tag(value: Any) -> str:
    model = value.get("model") if isinstance(value, dict) else getattr(value, "model", None)
    if isinstance(model, str) and model in LINK_MODELS:
        return f"<{model}>"
    return "<custom>" if isinstance(model, str) and ":" in model else "<unknown>"


Links = Annotated[
    Annotated[ConstantLinks, Tag("<constant>")]
    | Annotated[UniformLinks, Tag("<uniform>")]
    | Annotated[NormalLinks, Tag("<normal>")]
    | Annotated[LognormalLinks, Tag("<lognormal>")]
    | Annotated[DistanceLinks, Tag("<distance>")]
    | Annotated[CustomLinks, Tag("<custom>")]
    | Annotated[UnknownLinks, Tag("<unknown>")],
    Discriminator(_link_tag),
]


# --------------------------------------------------------------------------------------------------- network


class Members(Section):
    """Who runs a validator, by role."""

    administrator: int = Field(
        default=1, ge=0, le=1, description="the foreign-exchange administrator, 0 or 1"
    )
    policy_bank: int = Field(default=1, ge=0, le=1, description="the export-import bank, 0 or 1")
    commercial_bank: int = Field(default=5, ge=0, le=1000, description="number of commercial banks")

    def names(self) -> list[str]:
        """Member ids in consensus order: replica i is names()[i]."""
        banks = [f"commercial_bank.{i}" for i in range(1, self.commercial_bank + 1)]
        return ["administrator"] * self.administrator + ["policy_bank"] * self.policy_bank + banks


class Graph(Section):
    """Any topology: name the edges, or let a generator draw them; messages take the shortest path."""

    edges: Groups | None = Field(
        default=None, description='pairs of node names, e.g. [["replica.0", "replica.1"], ...]'
    )
    generator: Literal["ring", "line", "tree", "regular", "small-world", "scale-free"] | None = Field(
        default=None, description="a way to draw the edges instead"
    )
    degree: int = Field(default=4, ge=1, description="neighbours a node, for the generators that need it")


def _topology_tag(value: Any) -> str:
    return "<graph>" if isinstance(value, dict | Graph) else "<name>"


Topology = Annotated[
    Annotated[Literal["mesh", "star"], Tag("<name>")] | Annotated[Graph, Tag("<graph>")],
    Discriminator(_topology_tag),
]


class Network(Section):
    """Who takes part, and how far and how fast they are connected."""

    nodes: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="number of replicas, named replica.0 onwards; instead of members",
    )
    members: Members | None = Field(
        default=None,
        description="validators by role; default 1 administrator, 1 policy bank, 5 commercial banks",
    )
    links: Links = Field(
        default_factory=lambda: DistanceLinks(model="distance"),
        description='delay model: constant, uniform, normal, lognormal, distance, or "module:Class"',
    )
    client_links: Links | None = Field(
        default=None, description="delay model between clients and replicas; default: as links"
    )
    bandwidth_bps: Bandwidth | None = Field(
        default=None,
        alias="bandwidth",
        description="outgoing bandwidth of each node, shared by its copies; default: unlimited",
    )
    buffer: Size = Field(
        default=32 * 2**20,
        description="with a bandwidth: how much may wait for it at a node; what the node is to send while more waits, "
        "is lost. An assumption",
    )
    loss: Share = Field(default=0.0, description="share of messages lost on every link, 0 to 1")
    topology: Topology = Field(
        default="mesh",
        description='"mesh" (all to all), "star" (through a broker) or a table with edges or a generator',
    )
    places: dict[str, str] = Field(
        default_factory=dict,
        description="node -> city, where it differs from the default "
        "(administrator and policy bank: Guiyang; the others: Guizhou's prefectures in turn)",
    )
    broker: str = Field(default="Guiyang", description="city of the broker in a star")


# ----------------------------------------------------------------------------------------------------- nodes


class CpuCosts(Section):
    """What a node's one CPU is busy with, in time. Defaults: PyNaCl and msgspec on one 2020s server core."""

    message_ns: Duration = Field(
        default=10 * units.MICROSECOND_NS, alias="message", description="handling one message, in or out"
    )
    kilobyte_ns: Duration = Field(
        default=1 * units.MICROSECOND_NS, alias="kilobyte", description="hashing and copying 1000 bytes"
    )
    sign_ns: Duration = Field(
        default=17 * units.MICROSECOND_NS, alias="sign", description="making one Ed25519 signature"
    )
    verify_ns: Duration = Field(
        default=48 * units.MICROSECOND_NS, alias="verify", description="checking one Ed25519 signature"
    )
    execute_ns: Duration = Field(
        default=20 * units.MICROSECOND_NS,
        alias="execute",
        description="applying one transaction to the ledger",
    )


def _cpu_tag(value: Any) -> str:
    return "<costs>" if isinstance(value, dict | CpuCosts) else "<name>"


Cpu = Annotated[
    Annotated[Literal["none", "measured"], Tag("<name>")] | Annotated[CpuCosts, Tag("<costs>")],
    Discriminator(_cpu_tag),
]


class Nodes(Section):
    """What a node costs and how it signs."""

    cpu: Cpu = Field(
        default="measured",
        description='"none" (computing is free), "measured" (a measured profile) or a table of costs',
    )
    crypto: Literal["modelled", "real"] = Field(
        default="modelled",
        description='"modelled": signatures cost their time but are unforgeable tokens; "real": Ed25519',
    )


# ------------------------------------------------------------------------------------------------- consensus


def tunable(low: str, high: str) -> dict[str, JsonValue]:
    """Where `tradebft tune` looks for a better value of a field: from *low* to *high* (assumptions, as a scenario
    writes them). Ratios matter, unless *low* is 0."""
    return {"tune": [low, high]}


class Consensus(Section):
    """The protocol and its settings."""

    protocol: str = Field(default="pbft", description='"pbft", or a class of your own as "module:Class"')
    batch_size: int = Field(
        default=100,
        ge=1,
        le=1000000,
        description="a batch closes at this many transactions ...",
        json_schema_extra=tunable("1", "1000"),
    )
    batch_bytes: Size = Field(default=2**20, description="... or at this size ...")
    batch_timeout_ns: Duration = Field(
        default=0,
        alias="batch_timeout",
        description="... or this long after its first transaction; "
        "0 proposes at once whenever the window has room",
        json_schema_extra=tunable("0 ms", "100 ms"),
    )
    window: int = Field(
        default=16,
        ge=1,
        le=1000000,
        description="batches in flight at once (assumption)",
        json_schema_extra=tunable("1", "64"),
    )
    checkpoint_interval: int = Field(
        default=128,
        ge=1,
        le=1000000,
        description="K: a checkpoint every K batches",
        json_schema_extra=tunable("8", "512"),
    )
    log_window: int | None = Field(
        default=None,
        ge=2,
        description="L: batches accepted beyond the last stable checkpoint, more than K; default 2 K",
    )
    snapshot_interval: int | None = Field(
        default=None,
        ge=0,
        description="a snapshot of the whole state every so many batches, a multiple of K, for members that fell far "
        "behind; 0: never, and every block is kept; default 8 K (assumption)",
    )
    view_change_timeout_ns: Period = Field(
        default=units.SECOND_NS,
        alias="view_change_timeout",
        description="how long a replica waits for a request before it suspects the primary; "
        "doubles while views fail",
    )
    client_timeout_ns: Period = Field(
        default=2 * units.SECOND_NS,
        alias="client_timeout",
        description="how long a client waits before it sends its request to every replica (assumption)",
    )
    status_interval_ns: Period | None = Field(
        default=None,
        alias="status_interval",
        description="how long a replica waits without progress before it asks its peers what it misses; "
        "default: twice what a decision usually takes, at most nine tenths of view_change_timeout",
    )
    client_window: int = Field(
        default=256,
        ge=1,
        le=1000000,
        description="requests one client may have outstanding, and replies kept for it (assumption)",
    )

    @property
    def log_window_size(self) -> int:
        """L, with its default filled in."""
        return self.log_window if self.log_window is not None else 2 * self.checkpoint_interval

    @property
    def snapshot_every(self) -> int:
        """Batches from snapshot to snapshot, with the default filled in."""
        return self.snapshot_interval if self.snapshot_interval is not None else 8 * self.checkpoint_interval


# ---------------------------------------------------------------------------------------------------- faults


FAULT_KINDS: Final = ("crash", "partition", "one_way", "slow", "drift", "duplicate", "reorder", "spike")


class Fault(Section):
    """One mishap: exactly one of crash, partition, one_way, slow, drift, duplicate, reorder and spike."""

    at_ns: Moment = Field(alias="at", description='when: "30 s" after the start, or "day 3 10:15"')
    for_ns: Period | None = Field(
        default=None, alias="for", description="how long it lasts; default: to the end"
    )
    crash: Names = Field(
        default=(), description="node, or list of nodes, that stop; with `for` they restart from their disks"
    )
    torn: bool = Field(
        default=False,
        description="crash: each goes down in the middle of its next write to disk, which is lost",
    )
    partition: Groups = Field(
        default=(),
        description="list of nodes cut off from the others, or list of such lists; members that are not named form "
        "one more group. Clients of synthetic load may be named too (client.0); the others reach everybody",
    )
    one_way: Groups = Field(
        default=(),
        description="two lists of nodes, or clients of synthetic load: what the first send does not reach the second",
    )
    slow: Names = Field(default=(), description="node, or list of nodes, that become slow or lose messages")
    factor: float = Field(
        default=10.0,
        gt=0,
        description="slow: the delays of their links and their CPU times are multiplied by this, at least 1; "
        "drift: how much longer their timers take, 0.01 to 10",
    )
    loss: Share = Field(
        default=0.0,
        description="slow: share of the messages to and from them that is lost, 0 to 1; "
        "with factor = 1 nothing else is wrong",
    )
    drift: Names = Field(default=(), description="node, or list of nodes, whose timers run wrong by `factor`")
    duplicate: Share = Field(
        default=0.0, description="share of the messages that arrive a second time, up to `spread` later"
    )
    reorder: Share = Field(default=0.0, description="share of the messages that arrive up to `spread` late")
    spike: Share = Field(
        default=0.0, description="share of the messages that arrive from half to all of `spread` late"
    )
    spread_ns: Period = Field(
        default=100 * units.MILLISECOND_NS,
        alias="spread",
        description="duplicate, reorder, spike: how late (assumption)",
    )
    of: Names = Field(
        default=(), description="duplicate, reorder, spike: only messages from and to these; default: all"
    )

    @property
    def kind(self) -> str:
        """Which of `FAULT_KINDS` it is."""
        return next((kind for kind in FAULT_KINDS if getattr(self, kind)), "partition")

    @property
    def share(self) -> float:
        """The share of messages that it strikes, where it strikes messages."""
        return self.duplicate or self.reorder or self.spike

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The nodes named, as groups; all kinds but partition and one_way have one group."""
        return self.partition or self.one_way or (self.crash or self.slow or self.drift or self.of,)
