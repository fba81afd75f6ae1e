"""Figures over replicates with their intervals. Processes are replicates of time, seeds are replicates of accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # `scipy.stats` takes half a second and is imported at its first use
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
NOISE = 0.10
"""Largest relative drift within a window that counts as noise."""
Curves = NDArray[np.float64] | Sequence[Sequence[float]]
"""A value per run and epoch."""


class Figure(NamedTuple):
    """An estimate with its interval over `runs` replicates. The bounds are NaN for one replicate."""

    value: float
    low: float
    high: float
    runs: int


NOTHING = Figure(math.nan, math.nan, math.nan, 0)


def median(values: ArrayLike) -> Figure:
    """Return the median over processes and its interval from order statistics (as in scipy's `quantile_test`).

    Below six values no such interval reaches 95 %; the bounds are then the smallest and the largest value, which
    contain the median with probability 1 - 2^(1 - n). Infinite values count; an infinite result is returned as NaN.

    >>> median([3.0, 1.0, 2.0])
    Figure(value=2.0, low=1.0, high=3.0, runs=3)
    """
    sample = np.sort(_sample(values))
    runs = len(sample)
    if runs < 2:
        return NOTHING if not runs else Figure(_finite(sample[0]), math.nan, math.nan, 1)
    rank = max(1, int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, runs, 0.5)))  # ten times as fast as `quantile_test`
    middle = sample[[(runs - 1) // 2, runs // 2]].mean()
    return Figure(_finite(middle), _finite(sample[rank - 1]), _finite(sample[runs - rank]), runs)


def mean(values: ArrayLike) -> Figure:
    """Return the mean over seeds and its 95 % t interval (scipy); no bounds for a single seed.

    >>> [round(x, 3) for x in mean([0.70, 0.75, 0.80])[:3]]
    [0.75, 0.626, 0.874]
    """
    sample = _sample(values)
    if len(sample) < 2:
        return NOTHING if not len(sample) else Figure(float(sample[0]), math.nan, math.nan, 1)
    centre, error = float(sample.mean()), scipy.stats.sem(sample)
    low, high = scipy.stats.t.interval(CONFIDENCE, len(sample) - 1, centre, error) if error else (centre, centre)
    return Figure(centre, float(low), float(high), len(sample))


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of ours to theirs: Welch's t interval of the logarithms (scipy).

    Each side has a value per process. NaN if a side has fewer than two.

    >>> [round(x, 2) for x in ratio_interval([118.0, 120.0, 119.0], [100.0, 101.0, 102.0])]
    [1.15, 1.2]
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan, math.nan
    one, other = np.log(ours), np.log(theirs)
    if not np.ptp(one) and not np.ptp(other):  # t is undefined without spread
        ratio = math.exp(float(one[0] - other[0]))
        return ratio, ratio
    low, high = welch(one, other).confidence_interval(CONFIDENCE)
    return math.exp(low), math.exp(high)


def welch(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Any:
    """Run Welch's t test of two means (scipy); the result has `df`, `pvalue` and `confidence_interval`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns about a sample without spread
        return scipy.stats.ttest_ind(ours, theirs, equal_var=False)


def detectable(accuracy: float, images: int) -> float:
    """Return half the width of Wilson's 95 % interval for an accuracy on this many images; NaN for none.

    >>> round(detectable(0.95, 153), 3)
    0.037
    """
    if not images or not math.isfinite(accuracy):
        return math.nan
    bounds = scipy.stats.binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return float(bounds.high - bounds.low) / 2


def time_to(target: float, seconds: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return the training seconds at the end of the first epoch that reaches the target; infinite for none.

    `seconds` and `accuracies` are per epoch.

    >>> time_to(0.7, [10.0, 10.0, 10.0], [0.5, 0.72, 0.69])
    20.0
    """
    return float(times_to(target, [seconds], [accuracies])[0])


def times_to(target: float, seconds: Curves, accuracies: Curves) -> NDArray[np.float64]:
    """Return `time_to` of several runs with the same number of epochs.

    >>> times_to(0.7, [[10.0, 10.0]] * 2, [[0.5, 0.8], [0.5, 0.6]]).tolist()
    [20.0, inf]
    """
    spent = np.where(np.asarray(accuracies) >= target, np.cumsum(seconds, axis=1), math.inf)
    return np.asarray(spent.min(axis=1, initial=math.inf))


def drift(step_us: Sequence[int]) -> float:
    """Return the median step of the last third over that of the first third, minus 1; 0 below 15 steps."""
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
