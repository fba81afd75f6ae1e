"""Which images two arms judge differently. It explains a difference of accuracy and never decides about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Flips(NamedTuple):
    """Ids of images that A had right and B has wrong in most seeds, and the other way round; `p` is McNemar's exact one
    over these images, `images` how many there are."""

    lost: tuple[int, ...]
    won: tuple[int, ...]
    p: float
    images: int

    def sentence(self) -> str:
        """One line for people.

        >>> Flips((3, 4, 5), (9,), 0.625, 500).sentence()
        '4 of 500 images flipped: 3 lost, 1 won (McNemar p 0.62)'
        """
        lost, won = len(self.lost), len(self.won)
        return f"{lost + won} of {self.images} images flipped: {lost} lost, {won} won (McNemar p {self.p:.2g})"


def flips(a: Sequence[Arrays], b: Sequence[Arrays]) -> Flips:
    """Compare both arms' logits, per seed as a run stored them (`logits`, `labels`, `ids`), image by image.

    An arm has an image right if it is right in more than half of its seeds. Raises ValueError for other images.
    """
    if any(not np.array_equal(one["ids"], a[0]["ids"]) for one in (*a, *b)):
        raise ValueError("the arms judged different images")
    from statsmodels.stats.contingency_tables import mcnemar  # takes a second to import

    ours, theirs = (_mostly_right(arm) for arm in (a, b))
    lost, won = ours & ~theirs, theirs & ~ours
    counts = [[int((ours & theirs).sum()), int(lost.sum())], [int(won.sum()), int((~ours & ~theirs).sum())]]
    p = float(mcnemar(counts, exact=True).pvalue) if lost.any() or won.any() else 1.0
    ids = np.asarray(a[0]["ids"])
    return Flips(tuple(ids[lost].tolist()), tuple(ids[won].tolist()), p, len(ids))


def _mostly_right(arm: Sequence[Arrays]) -> NDArray[np.bool_]:
    right = np.array([one["logits"].argmax(axis=1) == one["labels"] for one in arm])
    found: NDArray[np.bool_] = right.mean(axis=0) > 0.5
    return found
