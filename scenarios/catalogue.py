"""The built-in scenarios: the TOML files of this folder, found wherever the package is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from tradebft.scenarios.lines import opening_comment


@dataclass(frozen=True, slots=True)
class Entry:
    """A scenario of the catalogue, the question it answers, and what the file says about its setting."""

    name: str
    question: str
    setting: str


def names() -> list[str]:
    """Names of the built-in scenarios, sorted."""
    files = resources.files("tradebft.scenarios").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def text(name: str) -> str:
    """The file of a built-in scenario, as it stands. KeyError when there is none of that name."""
    if name not in names():
        raise KeyError(name)
    return resources.files("tradebft.scenarios").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def entries() -> list[Entry]:
    """Every built-in scenario with its question: the opening comment up to the first question mark."""
    found = []
    for name in names():
        question, mark, setting = opening_comment(text(name)).partition("?")
        found.append(Entry(name, question + mark, setting.strip()))
    return found
