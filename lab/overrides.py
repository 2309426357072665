"""What stands after `--set` on a command line."""

from __future__ import annotations

from collections.abc import Sequence

import click


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
