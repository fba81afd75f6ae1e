"""Whether B is worse than A, from paired log-ratios: estimate, interval, verdict, and when to stop.

A log-ratio is the log of the cost of B over that of A within one pair of processes; positive is worse. The pair is the
replicate. `docs/verdicts.md` describes the method and its error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from results.storage.comparison import LOOKS, Verdict

TRIM = 0.2
CONFIDENCE = 0.978
"""Level of the interval at each look; over all looks the intervals cover in 95 % of comparisons (see `simulate`)."""
POWER = 0.8


class Estimate(NamedTuple):
    """Trimmed mean of log-ratios, its t interval, the two-sided p of no difference, and its standard error."""

    value: float
    low: float
    high: float
    p: float
    error: float
    pairs: int


class Decision(NamedTuple):
    """The verdict after `looks` looks; `final` if further looks cannot change it."""

    verdict: Verdict
    estimate: Estimate
    looks: int
    final: bool


def estimate(log_ratios: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the 20 %-trimmed mean and its t interval (Tukey and McLaughlin 1963; `mstats.trimmed_mean_ci`).

    Raises ValueError for fewer than five values.

    >>> found = estimate([0.05, 0.04, 0.06, 0.05, 0.05, 0.9, 0.04, 0.06, 0.05, -0.7])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.05, 0.036, 0.064)
    """
    sample = np.asarray(log_ratios, dtype=np.float64)
    if len(sample) < 5:
        raise ValueError(f"{len(sample)} pairs are too few for a trimmed mean; at least 5 are needed")
    limits = (TRIM, TRIM)
    low, high = scipy.stats.mstats.trimmed_mean_ci(sample, limits=limits, alpha=1 - confidence)
    value = float(scipy.stats.trim_mean(sample, TRIM))
    error = float(scipy.stats.mstats.trimmed_stde(sample, limits=limits))
    freedom = len(sample) - 2 * int(TRIM * len(sample)) - 1
    p = float(2 * scipy.stats.t.sf(abs(value) / error, freedom)) if error else float(value == 0)
    return Estimate(value, float(low), float(high), p, error, len(sample))


def judge(found: Estimate, margin: float) -> Verdict:
    """Return the verdict of an estimate.

    A regression needs an interval above zero and an estimate of at least the margin; `no change` needs the interval
    within the margin. `margin` is a relative change of cost: 0.03 is 3 %.

    >>> judge(Estimate(0.05, 0.01, 0.09, 0.01, 0.01, 10), 0.03)
    'regression'
    >>> judge(Estimate(0.01, 0.005, 0.015, 0.001, 0.001, 10), 0.03)
    'no change'
    """
    edge = math.log1p(margin)
    if found.low > 0 and found.value >= edge:
        return "regression"
    if found.high < 0 and found.value <= -edge:
        return "improvement"
    return "no change" if -edge < found.low and found.high < edge else "inconclusive"


def decide(log_ratios: Sequence[float], margin: float) -> Decision:
    """Decide after each look; the first verdict other than `inconclusive` is final.

    Pairs after the last look are not used. Raises ValueError for fewer pairs than the first look needs.
    """
    if len(log_ratios) < LOOKS[0]:
        raise ValueError(f"{len(log_ratios)} pairs are too few; the first look needs {LOOKS[0]}")
    passed = [look for look in LOOKS if look <= len(log_ratios)]
    for number, look in enumerate(passed, 1):
        found = estimate(log_ratios[:look])
        verdict = judge(found, margin)
        if verdict != "inconclusive":
            return Decision(verdict, found, number, final=True)
    return Decision("inconclusive", found, len(passed), final=len(passed) == len(LOOKS))


def detectable(found: Estimate, margin: float) -> float:
    """Return the smallest slow-down that pairs with this scatter report as a regression four times out of five.

    The result is a fraction: 0.05 is 5 %.
    """
    freedom = found.pairs - 2 * int(TRIM * found.pairs) - 1
    half, reach = (float(scipy.stats.t.ppf(q, freedom)) * found.error for q in ((1 + CONFIDENCE) / 2, POWER))
    return math.expm1(max(math.log1p(margin), half) + reach)
