"""The accuracy of a chosen case on images that were not used to choose it, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import scipy

from benchmarks.advising.policy import SEED_SD
from results.statistics import CONFIDENCE, detectable

SEED_WEIGHT = 4
"""The number of runs that the assumed spread between seeds counts as."""


class Score(NamedTuple):
    """Mean accuracy over seeds, its 95 % interval, and the resolution of the images, as fractions."""

    accuracy: float
    low: float
    high: float
    resolution: float


def score(accuracies: Sequence[float], images: int) -> Score:
    """Return the score of runs that differ in the seed, at least one, on the same `images`.

    The interval is Wilson's for these images, widened by the standard error over seeds. The spread between seeds is
    pooled with an assumed one, because there are few.

    >>> [round(value, 3) for value in score([0.9, 0.92], 153)]
    [0.91, 0.849, 0.95, 0.046]
    """
    accuracy, runs = fmean(accuracies), len(accuracies)
    bounds = scipy.stats.binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    squares = SEED_WEIGHT * SEED_SD**2 + float(np.square(np.asarray(accuracies) - accuracy).sum())
    degrees = SEED_WEIGHT + runs - 1
    seeds = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(squares / degrees / runs)
    return Score(
        accuracy,
        max(0.0, accuracy - math.hypot(accuracy - bounds.low, seeds)),
        min(1.0, accuracy + math.hypot(bounds.high - accuracy, seeds)),
        detectable(accuracy, images),
    )
