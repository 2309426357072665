"""Command groups that answer a misspelt command with the nearest one."""

from __future__ import annotations

import click


class Suggesting(click.Group):
    """A group that answers a misspelt command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of that name; for a misspelt one, a line that names the nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from tradebft.scenarios.errors import suggestion

            visible = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
            hint = suggestion(args[0], visible) or f"; expected one of {', '.join(visible)}"
            raise click.UsageError(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)
