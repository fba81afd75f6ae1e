"""`rules`: explain the ids of rules."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from benchmarks.choosing.options import GroupedCommand, option
from harness.errors import unknown
from results.rules.registry import SCOPES, TRAPS, as_markdown, rules_of


@click.command(cls=GroupedCommand)
@click.argument("id", required=False, help="id of a rule, such as V41; default: all rules")
@option("--markdown", is_flag=True, help="print every rule in full, as in docs/rules.md")
def command(id: str | None, *, markdown: bool) -> None:
    """Explain the rules that notes, reasons and certificates name."""
    if markdown:
        click.echo(as_markdown(), nl=False)
    elif id is None:
        grid = Table("rule", "checked in", "what goes wrong", box=None, pad_edge=False)
        for name, trap in TRAPS.items():
            grid.add_row(name, ", ".join(dict.fromkeys(rule.scope for rule in rules_of(name))), trap)
        Console().print(grid)
    elif id.upper() not in TRAPS:
        raise click.UsageError(unknown("rule", id, TRAPS))
    else:
        click.echo(f"{id.upper()}: {TRAPS[id.upper()]}")
        for rule in rules_of(id.upper()):
            click.echo(f"\n{rule.scope}: {rule.sentence}\n  Checked {SCOPES[rule.scope]}.")
