"""`doctor`: show what is installed and how this machine is configured, and measure the ceiling of its networks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.text import Text

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import Selection, expand
from benchmarks.inspecting.ceilings import described, measure_ceilings
from benchmarks.inspecting.doctor import examine
from benchmarks.running.terminal import aligned
from harness.ceiling.ceiling import Ceiling
from harness.errors import Refused

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow"}


class DoctorFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding about this machine or installation; `verdict` is ok, note or warning."""

    verdict: str
    subject: str
    text: str


class DoctorCeiling(msgspec.Struct, frozen=True, kw_only=True):
    """The measured ceiling of a network in floating-point operations per second, or the reason why there is none."""

    network: str
    flops_per_second: float | None
    ceiling: Ceiling | None
    reason: str = ""


class DoctorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, and with --ceiling the ceilings."""

    findings: tuple[DoctorFinding, ...]
    ceilings: tuple[DoctorCeiling, ...]


@click.command(cls=GroupedCommand)
@option("--ceiling", is_flag=True, group=MEASURE, help="measure and store the ceiling of the chosen networks")
@selection_options("seeds", "scenario", "epochs")
@json_option(lambda: DoctorDocument)
@shared("plugin", "results")
def command(ceiling: bool, json_: bool, results: Path, **options: Any) -> None:
    """Show what is installed and how this machine is configured.

    --ceiling measures how fast this machine computes each layer of a network alone, forward and backward, and stores
    it; `table --wide` then shows the share of it that a training reaches (MFU). Measure on an idle machine. Exits with
    3 if no ceiling was measured.
    """
    chosen = given(options)
    if chosen and not ceiling:
        raise Refused(f"--{next(iter(chosen)).replace('_', '-')} chooses networks for --ceiling; add --ceiling")
    findings, ceilings = list(examine()), list[DoctorCeiling]()
    if not json_:
        click.echo(aligned((Text(verdict, _COLOURS[verdict]), what, finding) for verdict, what, finding in findings))
    if ceiling:
        catalogue = read_catalogue(options["plugin"])
        for case, found in measure_ceilings(expand(Selection(**chosen), catalogue), catalogue, results):
            what, finding = described(case, found)
            ceilings.append(_ceiling(what, found))
            if not json_:
                click.echo(f"ceiling  {what}: {finding}")
    if json_:
        listed = tuple(DoctorFinding(verdict=one, subject=what, text=text) for one, what, text in findings)
        print_json(DoctorDocument(findings=listed, ceilings=tuple(ceilings)))
    if ceiling:
        sys.exit(0 if any(one.ceiling for one in ceilings) else 3)


def _ceiling(network: str, found: Ceiling | str) -> DoctorCeiling:
    if isinstance(found, str):
        return DoctorCeiling(network=network, flops_per_second=None, ceiling=None, reason=found)
    return DoctorCeiling(network=network, flops_per_second=found.flops_per_second, ceiling=found)
