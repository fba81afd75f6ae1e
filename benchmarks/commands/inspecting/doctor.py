"""`doctor`: show what is installed and how this machine is configured."""

from __future__ import annotations

import click
from rich.text import Text

from benchmarks.inspecting.doctor import examine
from benchmarks.running.terminal import aligned

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow"}


@click.command
def command() -> None:
    """Show what is installed and how this machine is configured."""
    click.echo(aligned((Text(verdict, _COLOURS[verdict]), what, finding) for verdict, what, finding in examine()))
