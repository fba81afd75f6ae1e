"""`merge`: copy the results of several machines into one folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import FOLDER, GroupedCommand, shared
from results.storage.merge import merge
from results.storage.run_files import run_files
from results.storage.shards import gaps


class MergeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of files copied, extended and unchanged, and a sentence about each missing part of a plan."""

    copied: int
    extended: int
    known: int
    missing: tuple[str, ...]


@click.command(cls=GroupedCommand)
@click.argument("sources", nargs=-1, required=True, type=FOLDER, help="folders of results to copy from")
@json_option(lambda: MergeDocument)
@shared("results")
def command(results: Path, json_: bool, sources: tuple[Path, ...]) -> None:
    """Copy the results of several folders into one folder.

    The target is the folder of --results, which keeps its own results. A second merge of the same SOURCES changes
    nothing. Exits with 3 if a part of a plan (--shard) is missing, and names it.
    """
    done = merge(results, list(sources))
    missing = tuple(map(str, gaps(run_files(results))))
    if json_:
        print_json(MergeDocument(**done._asdict(), missing=missing))
    else:
        click.echo(f"{results}: {done.copied} files copied, {done.extended} extended, {done.known} unchanged")
    for gap in missing:
        click.echo(f"! {gap}", err=True)
    sys.exit(3 if missing else 0)
