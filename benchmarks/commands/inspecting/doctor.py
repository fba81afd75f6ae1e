"""`doctor`: show what is installed and how this machine is configured, and measure the ceiling of its networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.options import MEASURE, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import Selection, expand
from benchmarks.inspecting.ceilings import described, measure_ceilings
from benchmarks.inspecting.doctor import examine
from benchmarks.running.terminal import aligned
from harness.errors import Refused

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow"}


@click.command(cls=GroupedCommand)
@option("--ceiling", is_flag=True, group=MEASURE, help="measure and store the ceiling of the chosen networks")
@selection_options("seeds", "scenario", "epochs")
@shared("plugin", "results")
def command(ceiling: bool, results: Path, **options: Any) -> None:
    """Show what is installed and how this machine is configured.

    --ceiling measures how fast this machine computes each layer of a network alone, forward and backward, and stores
    it; `table --wide` then shows the share of it that a training reaches (MFU). Measure on an idle machine. Exits with
    3 if no ceiling was measured.
    """
    chosen = given(options)
    if chosen and not ceiling:
        raise Refused(f"--{next(iter(chosen)).replace('_', '-')} chooses networks for --ceiling; add --ceiling")
    click.echo(aligned((Text(verdict, _COLOURS[verdict]), what, finding) for verdict, what, finding in examine()))
    if ceiling:
        catalogue = read_catalogue(options["plugin"])
        measured = 0
        for case, found in measure_ceilings(expand(Selection(**chosen), catalogue), catalogue, results):
            what, finding = described(case, found)
            measured += not isinstance(found, str)
            click.echo(f"ceiling  {what}: {finding}")
        sys.exit(0 if measured else 3)
