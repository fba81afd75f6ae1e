"""`history`: all runs of a machine over time, and where a level changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from benchmarks.comparing.sides import read_share
from results.storage.folder import RESULTS

if TYPE_CHECKING:
    from results.verdicts.history import Series


@click.command
@click.argument("path", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--margin", default="3%", show_default=True, help="smallest change that is reported; accuracy: 1 point")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(path: Path, margin: str, format_: Literal["text", "json"]) -> None:
    """Follow each case over all runs below PATH and warn where it became slower, larger or less accurate for good.

    A warning is no failure: this ends with 0 unless there is nothing to read. To fail a build, use `gate`.
    """
    from results import load
    from results.verdicts.accepted import read_accepted
    from results.verdicts.history import history

    acceptances = read_accepted(path) if path.is_dir() else []
    found = history(load(path), acceptances, read_share(margin, "--margin"))
    if format_ == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=1))  # bytes: JSON is UTF-8 everywhere
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: list[Series]) -> Iterator[str]:
    from results.tables.columns import METRICS
    from results.tables.wording import plain

    for one in found:
        metric = METRICS[one.metric]
        yield f"{plain(one.label)} {one.metric} on {one.machine}"
        for segment in one.segments:
            values = [metric.write(point.value) for point in segment.points]
            shown = values if len(values) <= 8 else [*values[:3], "…", *values[-4:]]
            yield f"  {segment.points[0].started[:10]} ({plain(segment.began)}): {', '.join(shown)} {metric.unit}"
            if segment.note:
                yield f"    {segment.note}"
            for change in segment.changes:
                unit = "points" if one.metric == "accuracy" else "%"
                size = change.change if one.metric == "accuracy" else 100 * change.change
                word = (
                    "accepted: " + plain(change.accepted) if change.accepted else "WORSE" if change.worse else "better"
                )
                where = f"from {change.started[:10]} (run {change.run[-6:]})"
                yield f"    {where}: {size:+.1f} {unit}, {word} (p {change.p:.2g})"
