"""Accuracies over seeds, simulated, to see how often the verdict about them is right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from results.verdicts.accuracy_verdict import judge_accuracy

SEEDS, IMAGES, ACCURACY = 5, 2_000, 0.95
SEED_SDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Standard deviations of the true accuracy from seed to seed, in points; that of 2 000 images comes on top."""
ASSERTED = 0.5
"""Up to which scatter 95 % of falls of 2 points must be found; with more, five seeds of each side are too few."""
FALLS = (0.0, 2.0)


class AccuracyCell(NamedTuple):
    """Shares of `comparisons` that were called a regression and an equality, for one scatter and one true fall."""

    seed_sd: float
    fall: float
    comparisons: int
    regressions: float
    equal: float


def simulate_accuracy(seed_sd: float, fall: float, comparisons: int, seed: int) -> AccuracyCell:
    """Five seeds of each side; each run judges 2 000 images, whose number of right ones is binomial."""
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
    """Sentences about the limits that a cell misses: 3 % false ones for any scatter, 95 % found up to `ASSERTED`."""
    said = []
    where = f"accuracy, {cell.seed_sd} points between seeds"
    if cell.fall == 0 and cell.regressions > 0.03:
        said.append(f"{where}: a regression in {cell.regressions:.1%} of A/A tests, over 3%")
    if cell.fall == 2.0 and cell.seed_sd <= ASSERTED and cell.regressions < 0.95:
        said.append(f"{where}: a fall of 2 points found in {cell.regressions:.1%}, under 95%")
    return said
