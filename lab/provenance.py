"""Where the numbers that went in come from: stages with their sources, and settings that no source supports."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from pydantic import BaseModel
from tradebft.lab import wording
from tradebft.scenarios import schema

CONFIDENCE_ORDER = ("low", "low-medium", "medium", "medium-high", "high")
UNITS = {"bd": "bank business days", "cd": "calendar days", "h": "hours", "min": "minutes"}
LINKS: dict[str, type[BaseModel]] = {
    "constant": schema.ConstantLinks,
    "uniform": schema.UniformLinks,
    "normal": schema.NormalLinks,
    "lognormal": schema.LognormalLinks,
    "distance": schema.DistanceLinks,
}

SOURCES = {
    "S3": "Cryptonews on the launch in Guizhou, July 2020 (press: month-long processes cut to seven days or under)",
    "S4": "8btc on the first case in Tongren, July 2020 (press: due diligence takes weeks)",
    "S9": "Speech of the platform builder's chairman, December 2019 (verification: one day before, 20 minutes after)",
    "S10": "Financial News, about November 2019 (papers two to three days, sometimes a week; review two to three)",
    "S11": "SAFE Tianjin, pilot report, December 2019 (about two days before)",
    "S12": "China Forex 2022 no. 19 (banks verify on site and document by document)",
    "S31": "Banking Frontiers on HSBC, 2018 (loan approval 1.5 days before, four hours after)",
    "S33": "On a Taiwanese trade blockchain, December 2020 (banks ask one another by phone and e-mail)",
    "S40-S43": "ICC and practitioners on letters of credit refused at first presentation (56 to 80 %, estimates)",
    "M": "Modelling assumption: no evidence; a parameter to vary",
}


def stages() -> list[dict[str, str]]:
    """The paper arm's stages: name, distribution, share of applications, sources and confidence, as text."""
    text = (
        resources.files("tradebft.scenarios").joinpath("data/paper_stages.json").read_text(encoding="utf-8")
    )
    return [_stage(row) for row in json.loads(text)["stages"] if row["process"] == "export_receivables_paper"]


def sources(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The sources that these stages name, with what was read there."""
    named = {source.strip() for row in rows for source in row["source"].split(",")}
    return [(key, text) for key, text in SOURCES.items() if any(name.startswith(key) for name in named)]


def assumed_settings(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(key, value, meaning) of the scenario's settings whose default nobody could source."""
    network, workload = settings.get("network", {}), settings.get("workload", {})
    links = network.get("links", {}) if isinstance(network, dict) else {}
    sections: list[tuple[str, Any, type[BaseModel] | None]] = [
        ("workload", workload, schema.TradeFinance if workload.get("kind") == "trade-finance" else None),
        ("workload.policy", workload.get("policy", {}), schema.Policy),
        ("network.links", links, LINKS.get(str(links.get("model")))),
    ]
    return [
        (f"{section}.{key}", _shown(values[key]), meaning)
        for section, values, model in sections
        if model is not None
        for key, meaning in _assumptions(model)
        if key in values
    ]


def _assumptions(model: type[BaseModel]) -> list[tuple[str, str]]:
    described = [(info.alias or name, info.description or "") for name, info in model.model_fields.items()]
    # The whole policy is the project's: its operator has published none of it.
    return [
        (key, text.replace("(assumption)", "").strip(" ;,"))
        for key, text in described
        if "assumption" in text or model is schema.Policy
    ]


def _stage(row: dict[str, Any]) -> dict[str, str]:
    numbers = [f"{value:g}" for value in row["params"]]
    shape = {
        "tri": lambda: f"triangular: {numbers[0]} to {numbers[2]}, mostly {numbers[1]}",
        "unif": lambda: f"uniform: {numbers[0]} to {numbers[1]}",
        "logn": lambda: (
            f"lognormal: median {numbers[0]}, sigma {numbers[1]}"
            + (f", at most {numbers[2]}" if len(numbers) > 2 else "")
        ),
    }.get(row["dist"], lambda: f"{row['dist']} {', '.join(numbers)}")()
    share = row["prob"]
    return {
        "stage": wording.stage(row["id"]),
        "duration": f"{shape} {UNITS.get(row['unit'], row['unit'])}",
        "share": f"{100 * share:.0f} %"
        if isinstance(share, int | float)
        else str(share).replace("_", " ") + "s",
        "source": str(row["source"]),
        "confidence": str(row["confidence"]),
    }


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
