"""`selftest`: does this harness notice when a benchmark lies?"""

from __future__ import annotations

import sys

import click
from rich.console import Console

from benchmarks.running.progress import RunProgress
from benchmarks.selftest.real import ask_all, described, faults
from benchmarks.selftest.report import lines, merged, score
from benchmarks.selftest.running import in_parts
from benchmarks.selftest.sins import SINS


@click.command
@click.option("--seed", default=0, show_default=True, help="where the sins are planted")
@click.option("--backends", is_flag=True, help="ask the real backends, too, how exactly and on how many cores they run")
@click.option("--quiet", is_flag=True, help="no progress, only the outcome")
def command(seed: int, backends: bool, quiet: bool) -> None:
    """Plant every sin that a fine-tuning benchmark can commit, and see whether the rule meant for it notices.

    Each is planted in two magnitudes; runs without any must go unnoticed; and with its rule switched off, each sin must
    get through. Takes under a minute, on the reference backend. The score comes last.
    """
    with RunProgress(Console(stderr=True), quiet=quiet) as progress:
        outcome = merged(in_parts(seed, progress.on_event), [sin.name for sin in SINS])
        probed = ask_all(progress.on_event) if backends else []
    for line in (*lines(outcome), *(("", *described(probed)) if probed else ())):
        click.echo(line)
    caught, planted = score(outcome)
    click.echo(f"{caught}/{planted}")
    whole = caught == planted and all(one.holds for one in outcome.shown)
    sys.exit(0 if whole and not any(map(faults, probed)) else 1)
