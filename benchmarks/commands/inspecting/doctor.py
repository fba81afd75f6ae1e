"""`doctor`: what is installed, and how this machine is set."""

from __future__ import annotations

import click

from benchmarks.inspecting.doctor import examine

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow"}


@click.command
def command() -> None:
    """Say what is installed and how this machine is set, as far as it bears on measurements."""
    for verdict, what, finding in examine():
        click.echo(f"{click.style(f'{verdict:8}', fg=_COLOURS[verdict])} {what:14} {finding}")
