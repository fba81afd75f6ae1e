"""`cache`: what is kept between runs."""

from __future__ import annotations

import click

from benchmarks.choosing.options import GroupedCommand, option
from benchmarks.datasets.cache import KINDS, cache_entries, cache_folder, clear_cache


@click.command(cls=GroupedCommand)
@option("--clear", is_flag=True, help="delete the entries; a later run makes them again")
@option("--kind", multiple=True, type=click.Choice(KINDS), help="only entries of this kind")
def command(clear: bool, kind: tuple[str, ...]) -> None:
    """Show or clear prepared data and pretrained networks."""
    entries = clear_cache(kinds=kind or KINDS) if clear else [e for e in cache_entries() if e.kind in (kind or KINDS)]
    click.echo(f"{cache_folder()}{' – removed' if clear else ''}")
    for entry in entries:
        click.echo(f"  {entry.size_bytes / 2**20:9.1f} MB  {entry.last_used:%Y-%m-%d}  {entry.kind}/{entry.name}")
    click.echo(f"  {sum(entry.size_bytes for entry in entries) / 2**20:9.1f} MB  in all")
