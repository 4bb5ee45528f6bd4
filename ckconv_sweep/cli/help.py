"""`--help` in sections, as plain lines. Typer itself has sections as boxes only: they leave a text
26 of 80 columns, and importing what draws them takes as long as the rest of `--help`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

# Sections of options, in the order of `launch`. What names none is in `Options`.
BUDGET = "Budget"
RESOURCES = "CPUs, GPUs and cluster"
PLACES = "Data, sweeps and tracking"
CHANGES = "Resuming after a change"
HOOKS = "Commands of your own"


class Command(TyperCommand):
    """A command whose options are in the sections that their `rich_help_panel` names."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """The whole first sentence, also where Typer would cut it."""
        return super().get_short_help_str(limit=1_000)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Argument names stand alone: the type that Typer writes after them is always a text."""
        lines = []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            name, text = record
            section = getattr(parameter, "rich_help_panel", None) or "Options"
            if parameter.param_type_name == "argument":
                name, section = name.partition(" ")[0], "Arguments"
            lines.append((section, name, text))
        _write(formatter, lines)


class Group(TyperGroup):
    """A program whose commands are in the sections that their `rich_help_panel` names. Each has its
    whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Of the commands that are not hidden."""
        _write(
            formatter,
            (
                (getattr(command, "rich_help_panel", None) or "Commands", name, sentence)
                for name, command in self.commands.items()
                if not command.hidden
                for sentence in [command.get_short_help_str()]
            ),
        )


def _write(formatter: Any, lines: Iterable[tuple[str, str, str]]) -> None:
    """`lines`: section, name, text. The texts of all sections begin in one column."""
    lines = list(lines)
    width = max(len(name) for _, name, _ in lines)
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for section, name, text in lines:
        sections.setdefault(section, []).append((name.ljust(width), text))
    for section, rows in sections.items():
        if not rows:
            continue
        with formatter.section(section):
            formatter.write_dl(rows)
