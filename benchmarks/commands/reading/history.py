"""`history`: show each case over time, and where its level changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import OUTPUT, GroupedCommand, option, results_or_run_option
from benchmarks.comparing.sides import read_share

if TYPE_CHECKING:
    from results.verdicts.history import Series


def _shape() -> Any:
    from results.verdicts.history import Series

    return list[Series]


@click.command(cls=GroupedCommand)
@option("--margin", default="3%", group=OUTPUT, help="smallest change to report; for accuracy it is 1 point")
@option("--format", "format_", type=click.Choice(("text", "json")), default="text", group=OUTPUT, help="output format")
@json_option(_shape, "the same as --format json")
@results_or_run_option
def command(results: Path, margin: str, format_: Literal["text", "json"], json_: bool) -> None:
    """Show each case over time, and where its level changed.

    It warns if a case became slower, larger or less accurate for more than one run. A warning does not change the exit
    code; to fail a build, use `gate`.
    """
    from results import load
    from results.verdicts.accepted import read_accepted
    from results.verdicts.history import history

    acceptances = read_accepted(results) if results.is_dir() else []
    found = history(load(results), acceptances, read_share(margin, "--margin"))
    if json_ or format_ == "json":
        print_json(found)
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
                size = f"{change.change:+.1f} points" if one.metric == "accuracy" else f"{100 * change.change:+.1f} %"
                word = "WORSE" if change.worse else "better"
                word = f"accepted: {plain(change.accepted)}" if change.accepted else word
                yield f"    from {change.started[:10]} (run {change.run[-6:]}): {size}, {word} (p {change.p:.2g})"
