"""What stands after `--set` on a command line, and what is said of a scenario before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from tradebft.scenarios.errors import ScenarioError


def warn(warnings: Iterable[str]) -> None:
    """What is allowed and probably not meant, a line each, where it disturbs no document."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def overrides_of(settings: Sequence[str]) -> dict[str, object]:
    """`KEY=VALUE` texts as a mapping; the last of two for one key counts."""
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(
                f"--set {setting}: expected KEY=VALUE, such as consensus.batch_size=10; found no '='"
                if not equals
                else f"--set {setting}: expected KEY=VALUE, such as consensus.batch_size=10; found no key"
            )
        overrides[key.strip()] = value
    return overrides


def profile_in(path: Path) -> dict[str, Any]:
    """The costs that `tradebft calibrate` wrote to *path*, for `nodes.cpu`. ScenarioError for a file that is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: expected a profile of `tradebft calibrate`: {error}") from None
