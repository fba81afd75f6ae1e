"""`cache`: show or clear the data and networks that are kept between runs."""

from __future__ import annotations

import click

from benchmarks.choosing.options import GroupedCommand, option
from benchmarks.datasets.cache import KINDS, cache_entries, cache_folder, clear_cache
from benchmarks.running.terminal import aligned


@click.command(cls=GroupedCommand)
@option("--clear", is_flag=True, help="delete the entries; the next run makes them again")
@option("--kind", multiple=True, type=click.Choice(KINDS), help="only entries of this kind")
def command(clear: bool, kind: tuple[str, ...]) -> None:
    """Show or clear prepared data and pretrained networks."""
    entries = clear_cache(kinds=kind or KINDS) if clear else [e for e in cache_entries() if e.kind in (kind or KINDS)]
    click.echo(f"{cache_folder()}{' (removed)' if clear else ''}")
    rows = [(one.size_bytes, f"{one.last_used:%Y-%m-%d}", f"{one.kind}/{one.name}") for one in entries]
    rows.append((sum(one.size_bytes for one in entries), "total", ""))
    click.echo(aligned([(f"  {size / 2**20:.1f} MB", *rest) for size, *rest in rows], right={0}))
