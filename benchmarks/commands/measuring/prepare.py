"""`prepare`: decode data and fetch, import or pretrain checkpoints now, so that `run` need not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.options import given, selection_options
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.preparing.embedded_networks import rebuild
from benchmarks.preparing.plan import Preparation
from benchmarks.running.progress import RunProgress
from harness.data.checkpoint import read_meta
from harness.errors import Refused, unknown


@click.command
@selection_options()
@click.option("--rebuild", "model_again", metavar="MODEL", help="pretrain MODEL anew on the embedded source task")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="file for --rebuild; default: MODEL.safetensors"
)
@click.option("--plugin", multiple=True, type=click.Path(), help="Python file with models, scenarios or datasets")
def command(model_again: str | None, out: Path | None, **options: Any) -> None:
    """Prepare what a `run` with the same options would need, and say where it is; 3 if some of it is not available.

    With --rebuild, make one of the networks that come with the project again, as a file for --checkpoint.
    """
    catalogue = read_catalogue(options["plugin"])
    with RunProgress(Console(stderr=True)) as progress:
        preparation = Preparation(catalogue, progress.on_event)
        if model_again is not None:
            lines, lacking = [_rebuilt(model_again, out, catalogue, preparation, progress)], False
        else:
            lines, lacking = _prepared(expand(Selection(**given(options)), catalogue), preparation)
    for line in dict.fromkeys(lines):
        click.echo(line)
    sys.exit(3 if lacking else 0)


def _rebuilt(
    model: str, out: Path | None, catalogue: Catalogue, preparation: Preparation, progress: RunProgress
) -> str:
    if not catalogue.offering(model):
        raise Refused(unknown("model", model, {m for facts in catalogue.backends.values() for m in facts.models}))
    target = out or Path(f"{model}.safetensors")
    rebuild(model, catalogue, preparation.embedded_source, progress.on_event, target)
    return f"{model}: {target}, SHA-256 {read_meta(target).sha256}"


def _prepared(cases: list[SelectedCase], preparation: Preparation) -> tuple[list[str], bool]:
    """A line for each thing, and whether something is lacking."""
    lines, lacking = [], False
    for selected in cases:
        planned = preparation.plan(selected)
        if planned.job is None:
            lacking = True
            lines.append(f"{selected.case.model}: {planned.skip_reason}")
            continue
        lines.append(f"{planned.case.dataset}: {planned.job.dataset_path}")
        if planned.job.checkpoint_path is not None:
            lines.append(f"{planned.case.model}: {planned.job.checkpoint_path}")
    return lines, lacking
