"""Play `advise`, the grid in order and random search on made-up problems, with the same budget each.

python -m benchmarks.studies.advising
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from statistics import fmean, quantiles

import click
from rich.console import Console
from rich.progress import track

from benchmarks.advising.simulated import WAYS, Played, problem
from benchmarks.running.terminal import aligned, use_stand_ins

HEADING: tuple[str, ...] = (
    "way", "mean regret", "nine in ten below", "within the resolution", "interval holds", "longest", "chosen"
)  # fmt: skip


@click.command
@click.option("--problems", type=click.IntRange(min=10), default=200, show_default=True)
def main(problems: int) -> None:
    """Print a line per way of choosing: its regret against an oracle in points, and how often its intervals hold."""
    bar = partial(track, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    lines = [HEADING]
    for name, way in WAYS.items():
        lines.append(row(name, [way(problem(seed), seed) for seed in bar(range(problems), name)]))
    click.echo(aligned(lines, right=range(1, len(HEADING))))


def row(name: str, played: Sequence[Played]) -> tuple[str, ...]:
    """Return the line of a way of choosing."""
    regrets = [100 * one.regret for one in played]
    shares = (fmean(getattr(one, what) for one in played) for what in ("near", "holds"))
    return (
        name,
        f"{fmean(regrets):.2f}",
        f"{quantiles(regrets, n=10)[-1]:.2f}",
        *(f"{100 * share:.1f} %" for share in shares),
        f"{100 * max(one.used for one in played):.0f} %",
        f"{sum(one.chose for one in played)}",
    )


if __name__ == "__main__":
    use_stand_ins()
    main()
