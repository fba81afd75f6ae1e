"""`advise`: find the network and method with the best accuracy on given images, within a time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.advising.advice import lines
from benchmarks.advising.advise import advise, divided, with_methods
from benchmarks.advising.document import AdviceDocument, document
from benchmarks.advising.field import Budget, Setup
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.configuration import command_line
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, POSITIVE, GroupedCommand, given, option, selection_options, shared
from benchmarks.comparing.comparison_run import finished
from benchmarks.preparing.plan import Preparation
from benchmarks.running.progress import RunProgress
from harness.process.machine import describe_machine, environment
from results.storage.run_files import open_run


@click.command(cls=GroupedCommand)
@click.argument("data", default="embedded", help="image folder, or a name of `list datasets`")
@selection_options("data", "seeds", "features", "native_defaults", "optimizer_rule")
@option("--minutes", type=POSITIVE, default=10.0, group=MEASURE, help="time limit, with the preparation")
@option("--steps", type=click.IntRange(min=1), group=MEASURE, help="number of runs instead of a time limit")
@json_option(lambda: AdviceDocument)
@shared("plugin", "quiet", "results")
def command(data: str, minutes: float, steps: int | None, json_: bool, results: Path, **options: Any) -> None:
    """Find the most accurate network and method for given images.

    It trains a classifier on the features of every available network, races fine-tuning of the promising ones, and
    repeats the best with other seeds, until the time is over. It chooses on validation images and reports on test
    images. With --steps it runs the same cases in every call. Exits with 3 if nothing was measured.
    """
    started = time.monotonic()
    wanted, catalogue = with_methods({"data": (data,), **given(options)}, read_catalogue(options["plugin"]))
    machine = describe_machine()
    with RunProgress(Console(stderr=True), quiet=options["quiet"]) as progress:
        preparation = Preparation(catalogue, progress.on_event)
        division, prepared = divided(wanted, catalogue, preparation)
        progress.say([prepared.sentence(), *prepared.meta.notes])
        here = environment()
        with open_run(results, command=command_line(), planned=(), machine=machine, environment=here) as writer:
            tools = catalogue, preparation, writer, machine, progress.on_event
            with finished(writer, "cases"):
                advice = advise(Setup(*tools, wanted, division, prepared), Budget(started, minutes * 60, steps))
    if json_:
        print_json(document(advice))
    else:
        click.echo("\n".join(lines(advice)))
    sys.exit(0 if advice.choice.leader else 3)
