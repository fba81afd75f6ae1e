"""`prepare`: prepare the data and checkpoints of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.options import FILE, OUTPUT, RUN, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.preparing.embedded_networks import rebuild
from benchmarks.preparing.plan import Preparation
from benchmarks.running.progress import RunProgress
from harness.data.checkpoint import read_meta
from harness.errors import Refused, unknown


@click.command(cls=GroupedCommand)
@selection_options()
@option("--rebuild", "model_again", metavar="MODEL", group=RUN, help="pretrain MODEL again on the embedded source task")
@option("--out", type=FILE, group=OUTPUT, help="output file of --rebuild; default: MODEL.safetensors")
@shared("plugin", "quiet")
def command(model_again: str | None, out: Path | None, **options: Any) -> None:
    """Prepare the data and checkpoints of a run.

    It takes the options of `run`, decodes images, downloads, imports or pretrains checkpoints, and prints the path of
    each file. --rebuild pretrains a network of this project again. Exits with 3 if something is not available.
    """
    catalogue = read_catalogue(options["plugin"])
    with RunProgress(Console(stderr=True), quiet=options["quiet"]) as progress:
        preparation = Preparation(catalogue, progress.on_event)
        if model_again is not None:
            lines, missing = [_rebuilt(model_again, out, catalogue, preparation, progress)], False
        else:
            lines, missing = _prepared(expand(Selection(**given(options)), catalogue), preparation)
    for line in dict.fromkeys(lines):
        click.echo(line)
    sys.exit(3 if missing else 0)


def _rebuilt(
    model: str, out: Path | None, catalogue: Catalogue, preparation: Preparation, progress: RunProgress
) -> str:
    if not catalogue.offering(model):
        raise Refused(
            unknown("model", model, sorted({m for facts in catalogue.backends.values() for m in facts.models}))
        )
    target = out or Path(f"{model}.safetensors")
    rebuild(model, catalogue, preparation.embedded_source, progress.on_event, target)
    return f"{model}: {target}, SHA-256 {read_meta(target).sha256}"


def _prepared(cases: list[SelectedCase], preparation: Preparation) -> tuple[list[str], bool]:
    """Prepare the cases; return one line per file, and whether something is missing."""
    lines, missing = [], False
    for selected in cases:
        planned = preparation.plan(selected)
        if planned.job is None:
            missing = True
            lines.append(f"{selected.case.model}: {planned.skip_reason}")
            continue
        lines.append(f"{planned.case.dataset}: {planned.job.dataset_path}")
        if planned.job.checkpoint_path is not None:
            lines.append(f"{planned.case.model}: {planned.job.checkpoint_path}")
    return lines, missing
