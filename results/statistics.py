"""Figures over replicates, each with its interval. The process is the replicate of time, the seed that of accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
NOISE = 0.10
"""Relative drift within a window that passes as noise until this machine's own A/A noise is known."""


class Figure(NamedTuple):
    """An estimate with its interval; `runs` replicates. The bounds are NaN where one replicate leaves them open."""

    value: float
    low: float
    high: float
    runs: int


NOTHING = Figure(math.nan, math.nan, math.nan, 0)


def median(values: ArrayLike) -> Figure:
    """Median over processes and its distribution-free interval from order statistics (as scipy's `quantile_test`).

    Below six values no such interval reaches 95 %, and the bounds are the smallest and the largest, which hold the
    median with probability 1 - 2^(1 - n). Infinite values are late, not missing: an infinite figure comes out as NaN.

    >>> median([3.0, 1.0, 2.0])
    Figure(value=2.0, low=1.0, high=3.0, runs=3)
    """
    sample = np.sort(_sample(values))
    runs = len(sample)
    if runs < 2:
        return NOTHING if not runs else Figure(_finite(sample[0]), math.nan, math.nan, 1)
    rank = max(1, int(stats.binom.ppf((1 - CONFIDENCE) / 2, runs, 0.5)))  # `quantile_test` takes ten times as long
    middle = sample[[(runs - 1) // 2, runs // 2]].mean()
    return Figure(_finite(middle), _finite(sample[rank - 1]), _finite(sample[runs - rank]), runs)


def mean(values: ArrayLike) -> Figure:
    """Mean over seeds and its 95 % t interval (scipy); no bounds for a single seed.

    >>> [round(x, 3) for x in mean([0.70, 0.75, 0.80])[:3]]
    [0.75, 0.626, 0.874]
    """
    sample = _sample(values)
    if len(sample) < 2:
        return NOTHING if not len(sample) else Figure(float(sample[0]), math.nan, math.nan, 1)
    centre, error = float(sample.mean()), stats.sem(sample)
    low, high = stats.t.interval(CONFIDENCE, len(sample) - 1, centre, error) if error else (centre, centre)
    return Figure(centre, float(low), float(high), len(sample))


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the ratio of ours to theirs: Welch's t interval on the logarithms (scipy).

    Each has a value per process. NaN where either side has fewer than two processes.

    >>> [round(x, 2) for x in ratio_interval([118.0, 120.0, 119.0], [100.0, 101.0, 102.0])]
    [1.15, 1.2]
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan, math.nan
    one, other = np.log(ours), np.log(theirs)
    if not np.ptp(one) and not np.ptp(other):  # without any spread there is no t
        ratio = math.exp(float(one[0] - other[0]))
        return ratio, ratio
    low, high = welch(one, other).confidence_interval(CONFIDENCE)
    return math.exp(low), math.exp(high)


def welch(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Any:
    """Welch's t test of two means (scipy), with its `df`, `pvalue` and `confidence_interval`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's warning about a sample that has no spread
        return stats.ttest_ind(ours, theirs, equal_var=False)


def detectable(accuracy: float, images: int) -> float:
    """Half the width of Wilson's 95 % interval for that fraction of that many test images; NaN for none.

    >>> round(detectable(0.95, 153), 3)
    0.037
    """
    if not images or not math.isfinite(accuracy):
        return math.nan
    bounds = stats.binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return float(bounds.high - bounds.low) / 2


def time_to(target: float, seconds: Sequence[float], accuracies: Sequence[float]) -> float:
    """Seconds of training at the end of the first epoch whose accuracy is at the target; infinite if there is none.

    `seconds` and `accuracies` are per epoch.

    >>> time_to(0.7, [10.0, 10.0, 10.0], [0.5, 0.72, 0.69])
    20.0
    """
    spent = 0.0
    for epoch_s, accuracy in zip(seconds, accuracies, strict=True):
        spent += epoch_s
        if accuracy >= target:
            return spent
    return math.inf


def drift(step_us: Sequence[int]) -> float:
    """Median step of the window's last third over that of its first third, minus 1; 0 for fewer than 15 steps."""
    third = len(step_us) // 3
    if third < 5:
        return 0.0
    first, last = sorted(step_us[:third])[third // 2], sorted(step_us[-third:])[third // 2]
    return last / first - 1 if first else 0.0


def _sample(values: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    sample = np.asarray(values, dtype=np.float64).ravel()
    return sample[~np.isnan(sample)]


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
