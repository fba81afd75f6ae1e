"""`simulate`: count how often the verdicts are right on simulated machines with known noise."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain, product

import click
import msgspec
from rich.console import Console
from rich.progress import track

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, option, shared
from benchmarks.running.terminal import aligned
from results.verdicts.accuracy_simulation import ASSERTED, FALLS, SEED_SDS, AccuracyCell, simulate_accuracy
from results.verdicts.accuracy_simulation import missed as missed_accuracy
from results.verdicts.simulation import CHANGES, SETTINGS, Cell, missed, simulate

HEADING = ("setting", "true", "regression", "improvement", "undecided", "interval holds", "pairs", "10 % on means",
           "Mann-Whitney")  # fmt: skip
ACCURACY_HEADING = ("sd of seeds", "true fall", "regression", "equal")
KEPT = f"every rate is within its limit (falls of 2 points: checked up to a standard deviation of {ASSERTED} points)"


class SimulateDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of verdicts on times and on accuracies, as shares; `failures` names each rate outside its limit."""

    seed: int
    times: tuple[Cell, ...]
    accuracies: tuple[AccuracyCell, ...]
    failures: tuple[str, ...]


@click.command(cls=GroupedCommand)
@option("--comparisons", type=click.IntRange(min=10), default=2_000, help="comparisons per line")
@option("--seed", default=0, help="seed of the simulated noise")
@json_option(lambda: SimulateDocument)
@shared("quiet")
def command(comparisons: int, seed: int, json_: bool, quiet: bool) -> None:
    """Simulate comparisons and count correct verdicts.

    The margin is 3 %. Two other methods see the same simulated data: a 10 % threshold on means against a stored run,
    and the Mann-Whitney test on pooled steps at 5 %. Lines with +0 % count every reported change; the other lines count
    reported slow-downs. Exits with 1 if a rate is outside its limit.
    """
    bar = partial(track, console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty())
    cells = [simulate(*one, comparisons, seed) for one in bar(list(product(SETTINGS, CHANGES)), "time")]
    falls = [simulate_accuracy(*one, comparisons, seed) for one in bar(list(product(SEED_SDS, FALLS)), "accuracy")]
    failures = [*chain.from_iterable(map(missed, cells)), *chain.from_iterable(map(missed_accuracy, falls))]
    if json_:
        found = SimulateDocument(seed=seed, times=tuple(cells), accuracies=tuple(falls), failures=tuple(failures))
        print_json(found)
        sys.exit(1 if failures else 0)
    click.echo(aligned([HEADING, *map(_row, cells)], right=range(1, len(HEADING))))
    click.echo("\naccuracy, 5 seeds of 2 000 images")
    click.echo(aligned([ACCURACY_HEADING, *map(_accuracy_row, falls)], right=range(len(ACCURACY_HEADING))))
    click.echo("\n" + ("\n".join(failures) or f"{KEPT}; {comparisons} comparisons per line, seed {seed}"))
    sys.exit(1 if failures else 0)


def _row(cell: Cell) -> tuple[str, ...]:
    shares = map(_percent, (cell.regressions, cell.improvements, cell.undecided, cell.covered))
    others = f"{cell.pairs:.1f}", _percent(cell.threshold), _percent(cell.pooled)
    return cell.setting, f"+{100 * cell.change:.0f} %", *shares, *others


def _accuracy_row(cell: AccuracyCell) -> tuple[str, ...]:
    return f"{cell.seed_sd:.2f}", f"{cell.fall:.1f}", _percent(cell.regressions), _percent(cell.equal)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
