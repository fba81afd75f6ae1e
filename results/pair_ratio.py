"""The log-ratio of one pair: that of B's cost over A's, from the turns they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Literal

from harness.pair import SideRecord, Turn
from results.rows import Order

TURNS = {"A": 2, "B": 2}
"""Turns of each side in a quad, as ABBA has them."""


def log_ratio(order: Order, a: SideRecord, b: SideRecord) -> float:
    """Log of B's seconds per image over A's, positive is slower.

    Where they took turns, a quad (ABBA or BAAB) cancels a drift that is linear over it and gives the mean of its two
    B turns less that of its two A turns; the pair is the median of its quads. Where one process came after the other,
    it is the difference of the medians of their turns. Raises ValueError for turns that make no whole quads.

    >>> turns = lambda *s: SideRecord(case=None, key="", version="", status="ok", turns=tuple(
    ...     Turn(steps=1, images=1, seconds=one, lead_us=1, step_us=()) for one in s))
    >>> round(log_ratio("ABBA", turns(1.0, 1.0), turns(1.1, 1.1)), 4)
    0.0953
    """
    ours, theirs = ([_log_cost(turn) for turn in side.turns] for side in (a, b))
    if not ours or not theirs:
        raise ValueError("a side has no turn")
    if order in ("AB", "BA"):
        return median(theirs) - median(ours)
    if len(ours) % TURNS["A"] or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} turns of A and {len(theirs)} of B make no whole {order}s")
    quads = zip(_pairs_of(ours), _pairs_of(theirs), strict=True)
    return median(fmean(second) - fmean(first) for first, second in quads)


def memory_log_ratio(
    metric: Literal["device memory", "process memory"] | str, a: SideRecord, b: SideRecord
) -> float | None:
    """Log of B's peak over A's; None where a side does not know it."""
    peaks = [_peak(metric, side) for side in (a, b)]
    if not all(peaks):
        return None
    ours, theirs = peaks
    return math.log(theirs / ours) if ours and theirs else None


def _peak(metric: str, side: SideRecord) -> int | None:
    if side.memory is None:
        return None
    return side.memory.device_peak if metric == "device memory" else side.memory.process_peak


def _log_cost(turn: Turn) -> float:
    return math.log(turn.seconds / turn.images)


def _pairs_of(costs: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(costs[0::2], costs[1::2], strict=True))
