"""Whether B is less accurate than A. Seeds are the replicates; single images have no influence on the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from harness.running.record import Record
from results.statistics import welch
from results.storage.comparison import Finding, Verdict
from results.verdicts.estimate import POWER

MARGIN = 1.0
"""Points of accuracy: smaller differences count as equal, larger losses as regressions."""
LEVEL = 0.05


def accuracy_finding(a: Sequence[Record], b: Sequence[Record]) -> Finding:
    """Compare the accuracies of the seeds with Welch's test and an equivalence test of ± 1 point.

    A regression needs a 95 % interval above zero and a loss of at least the margin; `no change` needs both one-sided
    equivalence tests (Schuirmann 1987) at 5 %. Raises ValueError for fewer than two seeds of a side.
    """
    ours, theirs = ([100 * _accuracy(record) for record in records] for records in (a, b))
    return judge_accuracy(ours, theirs)


def judge_accuracy(ours: Sequence[float], theirs: Sequence[float]) -> Finding:
    """Do the same as `accuracy_finding` for accuracies in per cent.

    >>> judge_accuracy([95.0, 95.2, 94.9, 95.1, 95.0], [92.8, 93.1, 93.0, 92.9, 93.2]).verdict
    'regression'
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError("accuracy needs at least two seeds on each side")
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    fall = float(one.mean() - other.mean())
    if not np.ptp(one) and not np.ptp(other):  # t is undefined without spread
        low = high = fall
        p, equivalent, half, reach = float(fall == 0), abs(fall) < MARGIN, 0.0, 0.0
    else:
        test = welch(one, other)
        low, high = map(float, test.confidence_interval(1 - LEVEL))
        p, half = float(test.pvalue), (high - low) / 2
        # Both one-sided tests reject at LEVEL if and only if this interval is inside the margin (Schuirmann 1987).
        equivalent = bool(max(map(abs, test.confidence_interval(1 - 2 * LEVEL))) < MARGIN)
        reach = half * float(scipy.stats.t.ppf(POWER, test.df) / scipy.stats.t.ppf(1 - LEVEL / 2, test.df))
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


Arrays = Mapping[str, NDArray[Any]]


class Flips(NamedTuple):
    """Ids of images that only A (`lost`) or only B (`won`) classifies correctly in most seeds.

    `p` is that of McNemar's exact test over all `images`.
    """

    lost: tuple[int, ...]
    won: tuple[int, ...]
    p: float
    images: int

    def sentence(self) -> str:
        """Describe the flips in one line.

        >>> Flips((3, 4, 5), (9,), 0.625, 500).sentence()
        '4 of 500 images flipped: 3 lost, 1 won (McNemar p 0.62)'
        """
        lost, won = len(self.lost), len(self.won)
        return f"{lost + won} of {self.images} images flipped: {lost} lost, {won} won (McNemar p {self.p:.2g})"


def flips(a: Sequence[Arrays], b: Sequence[Arrays]) -> Flips:
    """Compare the stored `logits`, `labels` and `ids` of the seeds of both sides, image by image.

    A side is correct for an image if more than half of its seeds are. Raises ValueError for different images.
    """
    if any(not np.array_equal(one["ids"], a[0]["ids"]) for one in (*a, *b)):
        raise ValueError("the two sides were evaluated on different images")
    from statsmodels.stats.contingency_tables import mcnemar  # takes a second to import

    ours, theirs = (_mostly_right(side) for side in (a, b))
    lost, won = ours & ~theirs, theirs & ~ours
    counts = [[int((ours & theirs).sum()), int(lost.sum())], [int(won.sum()), int((~ours & ~theirs).sum())]]
    p = float(mcnemar(counts, exact=True).pvalue) if lost.any() or won.any() else 1.0
    ids = np.asarray(a[0]["ids"])
    return Flips(tuple(ids[lost].tolist()), tuple(ids[won].tolist()), p, len(ids))


def _mostly_right(side: Sequence[Arrays]) -> NDArray[np.bool_]:
    right = np.array([one["logits"].argmax(axis=1) == one["labels"] for one in side])
    found: NDArray[np.bool_] = right.mean(axis=0) > 0.5
    return found
