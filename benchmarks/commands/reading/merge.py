"""`merge`: copy the results of several machines into one folder."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.choosing.options import FOLDER, GroupedCommand, shared
from results.storage.merge import merge


@click.command(cls=GroupedCommand)
@click.argument("sources", nargs=-1, required=True, type=FOLDER, help="folders of results to copy from")
@shared("results")
def command(results: Path, sources: tuple[Path, ...]) -> None:
    """Copy the results of several folders into one folder.

    The target is the folder of --results, which keeps its own results. A second merge of the same SOURCES changes
    nothing.
    """
    done = merge(results, list(sources))
    click.echo(f"{results}: {done.copied} files copied, {done.extended} extended, {done.known} unchanged")
