"""`merge`: results of several machines in one folder."""

from __future__ import annotations

from pathlib import Path

import click

from results.storage.merge import merge


@click.command
@click.argument("into", type=click.Path(file_okay=False, path_type=Path))
@click.argument("sources", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
def command(into: Path, sources: tuple[Path, ...]) -> None:
    """Bring the results of SOURCES into the folder INTO. Nothing is lost or doubled, also if it is done twice."""
    done = merge(into, list(sources))
    click.echo(f"{into}: {done.copied} files copied, {done.extended} extended, {done.known} were there already")
