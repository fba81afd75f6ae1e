"""`simulate`: how often the verdicts are right, on machines whose noise is known because it is made."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain, product

import click
from rich.console import Console
from rich.progress import track

from benchmarks.running.terminal import aligned
from results.verdicts.accuracy_simulation import ASSERTED, FALLS, SEED_SDS, AccuracyCell, simulate_accuracy
from results.verdicts.accuracy_simulation import missed as missed_accuracy
from results.verdicts.simulation import CHANGES, SETTINGS, Cell, missed, simulate

HEADING = ("setting", "true", "regression", "improvement", "undecided", "interval holds", "pairs", "10 % on means",
           "Mann-Whitney")  # fmt: skip
ACCURACY_HEADING = ("sd of seeds", "true fall", "regression", "equal")
KEPT = (
    f"every limit is kept (falls of 2 points: asserted up to {ASSERTED} points between seeds; beyond, use more seeds)"
)


@click.command
@click.option("--comparisons", type=click.IntRange(min=10), default=2_000, show_default=True, help="of each cell")
@click.option("--seed", default=0, show_default=True)
def command(comparisons: int, seed: int) -> None:
    """Simulate comparisons at a margin of 3 % and count what was said; ends with 1 if a limit is missed.

    Beside the verdicts: what a 10 % threshold on means against a stored run, and Mann-Whitney on pooled steps at 5 %,
    would have said. Where nothing changed, any change is counted; else slow-downs are.
    """
    bar = partial(track, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    cells = [simulate(*one, comparisons, seed) for one in bar(list(product(SETTINGS, CHANGES)), "time")]
    click.echo(aligned([HEADING, *map(_row, cells)], right=range(1, len(HEADING))))
    falls = [simulate_accuracy(*one, comparisons, seed) for one in bar(list(product(SEED_SDS, FALLS)), "accuracy")]
    click.echo("\naccuracy, 5 seeds of 2 000 images")
    click.echo(aligned([ACCURACY_HEADING, *map(_accuracy_row, falls)], right=range(len(ACCURACY_HEADING))))
    said = [*chain.from_iterable(map(missed, cells)), *chain.from_iterable(map(missed_accuracy, falls))]
    click.echo("\n" + ("\n".join(said) if said else f"{KEPT}; {comparisons} comparisons per line, seed {seed}"))
    sys.exit(1 if said else 0)


def _row(cell: Cell) -> tuple[str, ...]:
    shares = (cell.regressions, cell.improvements, cell.undecided, cell.covered)
    said = *map(_percent, shares), f"{cell.pairs:.1f}", _percent(cell.threshold), _percent(cell.pooled)
    return cell.setting, f"+{100 * cell.change:.0f} %", *said


def _accuracy_row(cell: AccuracyCell) -> tuple[str, ...]:
    return f"{cell.seed_sd:.2f}", f"{cell.fall:.1f}", _percent(cell.regressions), _percent(cell.equal)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
