"""`merge`: copy the results of several machines into one folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.choosing.options import FOLDER, GroupedCommand, shared
from results.storage.merge import merge
from results.storage.run_files import run_files
from results.storage.shards import gaps


@click.command(cls=GroupedCommand)
@click.argument("sources", nargs=-1, required=True, type=FOLDER, help="folders of results to copy from")
@shared("results")
def command(results: Path, sources: tuple[Path, ...]) -> None:
    """Copy the results of several folders into one folder.

    The target is the folder of --results, which keeps its own results. A second merge of the same SOURCES changes
    nothing. Exits with 3 if a part of a plan (--shard) is missing, and names it.
    """
    done = merge(results, list(sources))
    click.echo(f"{results}: {done.copied} files copied, {done.extended} extended, {done.known} unchanged")
    missing = gaps(run_files(results))
    for gap in missing:
        click.echo(f"! {gap}", err=True)
    sys.exit(3 if missing else 0)
