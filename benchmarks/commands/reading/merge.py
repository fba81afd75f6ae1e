"""`merge`: copy the results of several machines into one folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import FOLDER, GroupedCommand, shared
from benchmarks.inspecting.verify import verify
from harness.errors import Refused
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
    nothing. Every source is verified first, as by `verify`, but a run may lack planned cases. Exits with 1, and copies
    nothing, if a figure does not follow from the raw rows; with 3 if a part of a plan (--shard) is missing. Both are
    named.
    """
    for source in sources:
        if found := _faults(source):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            click.echo(f"{source} failed its verification, so nothing was merged: {found[0]}{more}", err=True)
            sys.exit(1)
    done = merge(results, list(sources))
    missing = tuple(map(str, gaps(run_files(results))))
    if json_:
        print_json(MergeDocument(**done._asdict(), missing=missing))
    else:
        click.echo(f"{results}: {done.copied} files copied, {done.extended} extended, {done.known} unchanged")
    for gap in missing:
        click.echo(f"! {gap}", err=True)
    sys.exit(3 if missing else 0)


def _faults(source: Path) -> list[str]:
    """Return a sentence for each figure of a source that does not follow from its raw rows."""
    from results import load, table
    from results.tables.load import NothingMeasured
    from results.tables.render import render

    if not (source / "runs").is_dir():
        return []  # `merge` refuses it
    try:
        rows = json.loads(render(table(load(source)), "json"))
    except NothingMeasured:
        rows = []
    try:
        return list(verify(source, rows, complete=False))
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"{source} has a row of another form ({error!r}); it cannot be verified, so nothing was merged"
        ) from error
