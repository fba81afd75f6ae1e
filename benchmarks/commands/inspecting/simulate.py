"""`simulate`: how often the verdicts are right, on machines whose noise is known because it is made."""

from __future__ import annotations

import sys

import click

from benchmarks.choosing.options import GroupedCommand, option
from results.verdicts.accuracy_simulation import ASSERTED, FALLS, SEED_SDS, AccuracyCell, simulate_accuracy
from results.verdicts.accuracy_simulation import missed as missed_accuracy
from results.verdicts.simulation import CHANGES, SETTINGS, Cell, missed, simulate

KEPT = (
    f"every limit is kept (falls of 2 points: asserted up to {ASSERTED} points between seeds; beyond, use more seeds)"
)


@click.command(cls=GroupedCommand)
@option("--comparisons", type=click.IntRange(min=10), default=2_000, help="comparisons per line")
@option("--seed", default=0, help="seed of the simulated noise")
def command(comparisons: int, seed: int) -> None:
    """Simulate comparisons and count correct verdicts.

    The margin is 3 %. Two other methods see the same simulated data: a 10 % threshold on means against a stored run,
    and the Mann-Whitney test on pooled steps at 5 %. Lines without a change count any change that a method reports; the
    others count reported slow-downs. Exits with 1 if a rate is outside its limit.
    """
    click.echo(
        "setting  true    regression  improvement  undecided  interval holds  pairs   10 % on means  Mann-Whitney"
    )
    said: list[str] = []
    for setting in SETTINGS:
        for change in CHANGES:
            cell = simulate(setting, change, comparisons, seed)
            click.echo(_line(cell))
            said += missed(cell)
    click.echo("\naccuracy, 5 seeds of 2 000 images\nsd of seeds  true fall  regression  equal")
    for seed_sd in SEED_SDS:
        for fall in FALLS:
            found = simulate_accuracy(seed_sd, fall, comparisons, seed)
            click.echo(_accuracy_line(found))
            said += missed_accuracy(found)
    click.echo("\n" + ("\n".join(said) if said else f"{KEPT}; {comparisons} comparisons per line, seed {seed}"))
    sys.exit(1 if said else 0)


def _line(cell: Cell) -> str:
    shares = (cell.regressions, cell.improvements, cell.undecided, cell.covered)
    a, b, c, d = (f"{100 * share:.1f} %" for share in shares)
    return (
        f"{cell.setting:8} +{100 * cell.change:<3.0f}%   {a:>10}  {b:>11}  {c:>9}  {d:>14}  {cell.pairs:5.1f}   "
        f"{100 * cell.threshold:11.1f} %  {100 * cell.pooled:10.1f} %"
    )


def _accuracy_line(cell: AccuracyCell) -> str:
    return f"{cell.seed_sd:7.2f}      {cell.fall:9.1f}  {100 * cell.regressions:8.1f} %  {100 * cell.equal:4.1f} %"
