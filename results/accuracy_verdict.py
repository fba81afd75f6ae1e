"""Whether B is less accurate than A. The seed is the replicate; single images explain and never decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.record import Record
from results.comparison import Finding, Verdict
from results.verdicts import POWER

MARGIN = 1.0
"""Points of accuracy within which two arms count as equal, and from which on a fall matters."""
LEVEL = 0.05


def of_accuracy(a: Sequence[Record], b: Sequence[Record]) -> Finding:
    """Welch's test over the seeds' accuracies, in points, and an equivalence test of ± 1 point.

    A regression needs the 95 % interval of the fall above zero and the fall at the margin; `no change` needs both
    one-sided tests of equivalence (Schuirmann 1987) at 5 %. Raises ValueError for fewer than two seeds of an arm.
    """
    ours, theirs = ([100 * _accuracy(record) for record in records] for records in (a, b))
    return judge_accuracy(ours, theirs)


def judge_accuracy(ours: Sequence[float], theirs: Sequence[float]) -> Finding:
    """As `of_accuracy`, from accuracies in per cent.

    >>> judge_accuracy([95.0, 95.2, 94.9, 95.1, 95.0], [92.8, 93.1, 93.0, 92.9, 93.2]).verdict
    'regression'
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError("accuracy needs at least two seeds of each arm")
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    fall = float(one.mean() - other.mean())
    variances = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    error = math.sqrt(sum(variances))
    if error == 0:
        low = high = fall
        p, equivalent, half, reach = float(fall == 0), abs(fall) < MARGIN, 0.0, 0.0
    else:
        freedom = sum(variances) ** 2 / sum(
            v**2 / (len(sample) - 1) for v, sample in zip(variances, (one, other), strict=True)
        )
        half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
        low, high = fall - half, fall + half
        p = float(2 * stats.t.sf(abs(fall) / error, freedom))
        equivalent = float(stats.t.sf((MARGIN - abs(fall)) / error, freedom)) < LEVEL
        reach = float(stats.t.ppf(POWER, freedom)) * error
    return Finding(
        metric="accuracy",
        unit="points",
        verdict=_verdict(fall, low, high, equivalent=equivalent),
        change=fall,
        low=low,
        high=high,
        p=p,
        replicates=min(len(ours), len(theirs)),
        margin=MARGIN,
        detectable=max(MARGIN, half) + reach,
    )


def _verdict(fall: float, low: float, high: float, *, equivalent: bool) -> Verdict:
    if low > 0 and fall >= MARGIN:
        return "regression"
    if high < 0 and fall <= -MARGIN:
        return "improvement"
    return "no change" if equivalent else "inconclusive"


def _accuracy(record: Record) -> float:
    quality = record.test or record.val
    if quality is None:
        raise ValueError(f"{record.case.label} has no accuracy")
    return quality.accuracy
