"""What is wrong with a scenario, in one line a person can act on.

guizhou.toml:12: network.latancy: unknown key; expected one of bandwidth, links, ...; did you mean 'links'?
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class ScenarioError(ValueError):
    """Bad input, said in one line: file, line, field, what was expected, what was found, the nearest name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong at one place; `path` leads to the key (list positions as ints, empty: the file)."""

    path: tuple[str | int, ...]
    text: str


def dotted(path: Iterable[str | int]) -> str:
    """The way to a key as a reader writes it: `fault[0].at`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, or None when none is near enough to be a slip."""
    candidates = list(known)
    lowered = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'links'?`, or nothing."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""


def one_of(known: Iterable[str]) -> str:
    """The known names in one phrase, for "expected one of ..."."""
    names = list(known)
    return f"expected {names[0]}" if len(names) == 1 else f"expected one of {', '.join(names)}"
