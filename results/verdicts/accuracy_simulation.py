"""Simulated accuracies over seeds, to measure how often their verdict is right."""

from __future__ import annotations

import msgspec
import numpy as np

from results.verdicts.accuracy_verdict import judge_accuracy

SEEDS, IMAGES, ACCURACY = 5, 2_000, 0.95
SEED_SDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Standard deviations of the true accuracy between seeds, in points, without the sampling error of the images."""
ASSERTED = 0.5
"""Largest scatter for which 95 % of losses of 2 points must be found; five seeds per side are too few for more."""
FALLS = (0.0, 2.0)


class AccuracyCell(msgspec.Struct, frozen=True):
    """Shares of `comparisons` with the verdicts `regression` and `no change`, for one scatter and one true loss."""

    seed_sd: float
    fall: float
    comparisons: int
    regressions: float
    equal: float


def simulate_accuracy(seed_sd: float, fall: float, comparisons: int, seed: int) -> AccuracyCell:
    """Simulate comparisons of five seeds per side; the number of correct images of a run is binomial."""
    draw = np.random.default_rng([seed, round(seed_sd * 1e6), round(fall * 1e6)])
    verdicts = []
    for _ in range(comparisons):
        sides = []
        for lost in (0.0, fall):
            true = ACCURACY + (seed_sd * draw.standard_normal(SEEDS) - lost) / 100
            right = draw.binomial(IMAGES, np.clip(true, 0.0, 1.0))
            sides.append((100 * right / IMAGES).tolist())
        verdicts.append(judge_accuracy(*sides).verdict)
    return AccuracyCell(
        seed_sd=seed_sd,
        fall=fall,
        comparisons=comparisons,
        regressions=verdicts.count("regression") / comparisons,
        equal=verdicts.count("no change") / comparisons,
    )


def missed(cell: AccuracyCell) -> list[str]:
    """Return a sentence for each missed limit: 3 % false verdicts, and 95 % found losses up to `ASSERTED`."""
    found = []
    where = f"accuracy, {cell.seed_sd} points between seeds"
    if cell.fall == 0 and cell.regressions > 0.03:
        found.append(f"{where}: a regression in {cell.regressions:.1%} of A/A tests, over 3%")
    if cell.fall == 2.0 and cell.seed_sd <= ASSERTED and cell.regressions < 0.95:
        found.append(f"{where}: a loss of 2 points found in {cell.regressions:.1%}, under 95%")
    return found
