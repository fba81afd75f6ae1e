"""`prepare`: decode data and fetch, import or pretrain checkpoints now, so that `run` need not."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console

from benchmarks.catalogue import read_catalogue
from benchmarks.options import given, selection_options
from benchmarks.plan import Preparation
from benchmarks.progress import RunProgress
from benchmarks.selection import Selection, expand


@click.command
@selection_options()
@click.option("--plugin", multiple=True, type=click.Path(), help="Python file with models, scenarios or datasets")
def command(**options: Any) -> None:
    """Prepare what a `run` with the same options would need, and say where it is; 3 if some of it cannot be had."""
    catalogue = read_catalogue(options["plugin"])
    drafts = expand(Selection(**given(options)), catalogue)
    lines: dict[str, None] = {}
    lacking = False
    with RunProgress(Console(stderr=True)) as progress:
        preparation = Preparation(catalogue, progress.on_event)
        for draft in drafts:
            planned = preparation.plan(draft)
            if planned.job is None:
                lacking = True
                lines[f"{draft.case.model}: {planned.skip}"] = None
                continue
            lines[f"{planned.case.dataset}: {planned.job.dataset_path}"] = None
            if planned.job.checkpoint_path is not None:
                lines[f"{planned.case.model}: {planned.job.checkpoint_path}"] = None
    for line in lines:
        click.echo(line)
    sys.exit(3 if lacking else 0)
