"""docs/scenarios.md, generated from the schema: keys, units, defaults and limits cannot drift from the code."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from tradebft.consensus.byzantine import BEHAVIOURS
from tradebft.consensus.byzantine.clients import BEHAVIOURS as CLIENT_BEHAVIOURS
from tradebft.scenarios import adversaries, catalogue, demand, membership, schema, sections, units

_INTRODUCTION = """\
# Scenario reference

<!-- Generated: `tradebft docs-reference > docs/scenarios.md`. A test compares this page with the schema. -->

A scenario is a TOML file. Every quantity carries its unit: `"250 ms"`, `"2 h"`, `"100 Mbit/s"`, `"64 KiB"`. A key that
does not exist, a wrong type or an impossible value is refused with one line that names file, line and key.
Virtual time starts at 00:00 of `start`; `"day 3 10:15"` is a quarter past ten on the third day. Defaults marked
*assumption* have no source; the others are explained in [sources](sources.md).

Wherever a kind is named (`consensus.protocol`, `network.links.model`, `workload.kind`) a class of your own may stand
as `"module:Class"`. It is looked for in the working folder and beside the scenario file, too.

`tradebft check FILE` reads a scenario without running it. `--set KEY=VALUE` overrides one key:
`--set consensus.batch_size=10`, `--set fault.0.for="1 h"`.
"""

_EXPECT = """\
## [expect]

What must hold after the run; otherwise `tradebft run` exits with 1 and prints the figure. A key is a dotted path into
the result document ([results](results.md)), in quotes; list items are numbers (`"coverage.0.missed"`).

| condition | means |
|---|---|
| `agreement = true` | no invariant was violated (and some were checked) |
| `"consensus.view_changes" = 0` | equal to it; texts and booleans likewise |
| `"consensus.client_ms.p99" = "< 400"` | one of `<`, `<=`, `>`, `>=`, `==`, `!=` |
| `"processes.paper.existing_customer_days.p50" = "within 13..17"` | both ends count |

A path that the result does not have is a failure, never a pass.
"""


def scenarios_page() -> str:
    """The whole page, as committed in docs/scenarios.md."""
    parts = [_INTRODUCTION, "\n".join(_catalogue()), "\n".join(_pages()), _EXPECT]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _catalogue() -> Iterator[str]:
    yield "## Built in\n"
    yield "| name | question | setting |"
    yield "|---|---|---|"
    for entry in catalogue.entries():
        yield f"| `{entry.name}` | {_cell(entry.question)} | {_cell(entry.setting)} |"


def _pages() -> Iterator[str]:
    yield from _section(
        "## Top of the file", schema.Scenario, skip={"network", "nodes", "consensus", "workload"}
    )
    yield from _section("## [network]", sections.Network)
    yield from _section("### network.members", sections.Members)
    for model in (
        sections.ConstantLinks,
        sections.UniformLinks,
        sections.NormalLinks,
        sections.LognormalLinks,
        sections.DistanceLinks,
    ):
        (name,) = get_args(model.model_fields["model"].annotation)
        yield from _section(f'### network.links, model = "{name}"', model, skip={"model"})
    yield from _section("### network.topology as a table", sections.Graph)
    yield from _section("## [nodes]", sections.Nodes)
    yield from _section("### nodes.cpu as a table of costs", sections.CpuCosts)
    yield from _section("## [consensus]", sections.Consensus)
    yield from _section('## [workload], kind = "synthetic"', demand.Synthetic, skip={"kind"})
    yield from _section('## [workload], kind = "trade-finance"', demand.TradeFinance, skip={"kind"})
    yield from _section("### workload.policy", demand.Policy)
    yield "\n### workload.fraud\n"
    yield "| key | case |"
    yield "|---|---|"
    for code, meaning in demand.FRAUD_CASES.items():
        yield f"| `{code}` | {meaning} |"
    yield f"| {', '.join(f'`{name}`' for name in demand.FRAUD_GROUPS)} | groups of the published mix |"
    yield from _section("## [[fault]]", sections.Fault)
    yield from _section("## [[membership]]", membership.MemberChange)
    yield from _section("## [[byzantine]]", adversaries.Byzantine)
    yield "\n### Behaviours of members\n"
    yield "| behaviour | parameters | attack |"
    yield "|---|---|---|"
    for name, kind in BEHAVIOURS.items():
        keys = ", ".join(f"`{key} = {_value(value)}`" for key, value in kind.defaults.items())
        yield f"| `{name}` | {keys} | {_cell(_sentence(kind))} |"
    yield "\n### Behaviours of clients\n"
    yield "| behaviour | attack |"
    yield "|---|---|"
    for name, client in CLIENT_BEHAVIOURS.items():
        yield f"| `{name}` | {_cell(_sentence(client))} |"


def _value(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _sentence(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def _section(heading: str, model: type[BaseModel], skip: Collection[str] = ()) -> Iterator[str]:
    yield f"\n{heading}\n"
    yield " ".join((model.__doc__ or "").split()) + "\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key not in skip:
            yield f"| `{key}` | {_cell(_kind(info))} | {_cell(_default(info))} | {_cell(info.description or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_UNITS = {
    sections.Duration: "duration",
    sections.Period: "duration, longer than 0",
    sections.Moment: "moment",
    sections.Bandwidth: "bandwidth",
    sections.Size: "size",
    sections.Names: "node name or list of them",
    sections.Groups: "list of node names, or list of such lists",
    sections.Links: "table",
    sections.Topology: "name or table",
    sections.Cpu: "name or table",
}


def _kind(info: FieldInfo) -> str:
    """What may stand there, with its limits, in words."""
    annotation: Any = info.annotation
    named = _UNITS.get(Annotated[(annotation, *info.metadata)]) if info.metadata else _named(annotation)
    if named:
        return named
    text = _type_name(annotation)
    limits = [
        f"{words} {_plain(getattr(item, name))}"
        for item in info.metadata
        for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if getattr(item, name, None) is not None
    ]
    return ", ".join([text, *limits])


def _plain(number: float) -> str:
    return "2^64" if number == 2**64 else f"{number:,.10g}"


def _named(annotation: Any) -> str | None:
    """The name of a quantity, also where it may be left out."""
    for part in (annotation, *get_args(annotation)):
        try:
            if part in _UNITS:
                return _UNITS[part]
        except TypeError:
            continue
    return None


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in inner)
    if origin is Annotated:
        return _named(annotation) or _type_name(inner[0])
    if origin in (UnionType, Union):
        return " or ".join(dict.fromkeys(_type_name(part) for part in inner if part is not NoneType))
    if origin is tuple:
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return "table"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", datetime.date: "date"}
    return names.get(annotation, "table")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default_factory is not None:
        made = info.default_factory()  # type: ignore[call-arg]
        model = getattr(made, "model", None)
        return (
            f'`{{ model = "{model}" }}`' if model else "see below" if isinstance(made, BaseModel) else "empty"
        )
    value = info.default
    assert value is not PydanticUndefined
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value == () or value == "":
        return ""
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    kind = _kind(info)
    if kind.startswith("duration"):
        return f'`"{units.duration_text(value)}"`'
    if kind == "size":
        return f'`"{units.size_text(value)}"`'
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
