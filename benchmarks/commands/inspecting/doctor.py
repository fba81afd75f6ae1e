"""`doctor`: what is installed, and how this machine is set."""

from __future__ import annotations

import click

from benchmarks.inspecting.doctor import examine

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow"}


@click.command
def command() -> None:
    """Show what is installed and how this machine is configured."""
    for verdict, what, finding in examine():
        click.echo(f"{click.style(f'{verdict:8}', fg=_COLOURS[verdict])} {what:14} {finding}")
