"""Help in plain text, in sections, for any terminal."""

from collections.abc import Collection, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

_LAST = {"--set", "--json", "--quiet", "--help"}


class PlainCommand(TyperCommand):
    """A command with plain-text help: arguments, its options, and common options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See the class."""
        self.format_parameters(ctx, formatter)

    def format_parameters(
        self, ctx: Any, formatter: Any, *, hidden: Collection[str] = (), first: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Writes the parameters except the options `hidden`; the rows `first` stand after the command's own."""
        arguments: list[tuple[str, str]] = []
        options: list[tuple[str, str]] = []
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is None or parameter.opts[0] in hidden:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(row)
            else:
                (last if _LAST & {*parameter.opts} else options).append(row)
        common = "Common options" if first else "Options"
        for title, rows in (("Arguments", arguments), (common, [*options, *first]), ("Other options", last)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class PlainGroup(TyperGroup):
    """A group whose commands are listed by their panel."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See the class."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panel = command.rich_help_panel if isinstance(command.rich_help_panel, str) else "Commands"
            panels.setdefault(panel, []).append((name, command.get_short_help_str(limit=200)))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)
