"""Fewer points than there are, chosen so that nothing is hidden, and said so on the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` items, evenly spread, first and last among them.

    >>> evenly(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, limit).round()]


def peaks(values: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Places of at most `limit` values: of neighbours the largest, so that no stall is left out.

    >>> peaks(np.array([1, 9, 1, 1, 1, 8]), 3).tolist()
    [1, 2, 5]
    """
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), limit + 1).round().astype(np.int64)
    return np.array([low + int(values[low:high].argmax()) for low, high in pairwise(edges)])


def said(shown: int, of: int, what: str) -> tuple[str, ...]:
    """The sentence about what is left out, if anything is.

    >>> said(5, 5, "processes"), said(100, 2000, "processes")
    ((), ('100 of 2000 processes are drawn, evenly chosen; tables and intervals are over all of them.',))
    """
    if shown >= of:
        return ()
    return (f"{shown} of {of} {what} are drawn, evenly chosen; tables and intervals are over all of them.",)
