"""`cache`: show or clear the data and networks that are kept between runs."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, option
from benchmarks.datasets.cache import KINDS, cache_entries, cache_folder, clear_cache
from benchmarks.running.terminal import aligned


class CachedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry, its size in bytes, and when it was last used."""

    kind: str
    name: str
    path: str
    size_bytes: int
    last_used: datetime


class CacheDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The folder of the cache and its entries; `removed` says whether these were deleted."""

    folder: str
    removed: bool
    size_bytes: int
    entries: tuple[CachedEntry, ...]


@click.command(cls=GroupedCommand)
@option("--clear", is_flag=True, help="delete the entries; the next run makes them again")
@option("--kind", multiple=True, type=click.Choice(KINDS), help="only entries of this kind")
@json_option(lambda: CacheDocument)
def command(clear: bool, kind: tuple[str, ...], json_: bool) -> None:
    """Show or clear prepared data and pretrained networks."""
    entries = clear_cache(kinds=kind or KINDS) if clear else [e for e in cache_entries() if e.kind in (kind or KINDS)]
    if json_:
        listed = tuple(CachedEntry(**{**one._asdict(), "path": str(one.path)}) for one in entries)
        size = sum(one.size_bytes for one in entries)
        print_json(CacheDocument(folder=str(cache_folder()), removed=clear, size_bytes=size, entries=listed))
        return
    click.echo(f"{cache_folder()}{' (removed)' if clear else ''}")
    rows = [(one.size_bytes, f"{one.last_used:%Y-%m-%d}", f"{one.kind}/{one.name}") for one in entries]
    rows.append((sum(one.size_bytes for one in entries), "total", ""))
    click.echo(aligned([(f"  {size / 2**20:.1f} MB", *rest) for size, *rest in rows], right={0}))
