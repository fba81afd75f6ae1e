"""A choice of points for a chart, with a sentence about the omitted ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """Choose at most `limit` items, evenly spread, the first and the last included.

    >>> evenly(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, limit).round()]


def peaks(values: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return the positions of at most `limit` values, the largest of each group of neighbours, to keep every stall.

    >>> peaks(np.array([1, 9, 1, 1, 1, 8]), 3).tolist()
    [1, 2, 5]
    """
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), limit + 1).round().astype(np.int64)
    return np.array([low + int(values[low:high].argmax()) for low, high in pairwise(edges)])


def omission(shown: int, of: int, what: str) -> tuple[str, ...]:
    """Return the sentence about omitted points, if any.

    >>> omission(5, 5, "processes"), omission(100, 2000, "processes")
    ((), ('100 of 2000 processes are drawn, evenly chosen; tables and intervals include all of them.',))
    """
    if shown >= of:
        return ()
    return (f"{shown} of {of} {what} are drawn, evenly chosen; tables and intervals include all of them.",)
