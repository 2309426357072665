"""`--engine`, for every command that simulates."""

from __future__ import annotations

from typing import Final

import click

# Those of `network.engines`, which takes a while to import.
ENGINES: Final = ("auto", "reference", "wavefront", "compiled")

engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="reference",
    show_default=True,
    help="What simulates; the trace digest is the same.",
)
