"""Ratios of the loops' times, round by round, for peers that did the same work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from benchmarks.studies.peers.task import Steps
from results.statistics import median

FIRST = (1e-4, 1e-3)
"""Largest relative differences of the first losses of a timed run (float32): equal weights, images and update."""
WARM_UP = 3
"""Steps after the first one that are not part of the window of images per second."""


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """A loop's median figures over its rounds, and its ratios to this project's loop of the same work.

    `seconds` counts from the end of the first step to the end of training, `wall_s` is the whole process. `ratio`
    is the median of (seconds of this loop / seconds of ours) with its 95 % interval; a ratio is None without a
    proof of the same work, and a bound is None for one round. Below six rounds the bounds are the smallest and largest
    ratio. `gap` is the largest relative difference of a loss in float64.
    """

    name: str
    beside: str | None
    rounds: int
    seconds: float
    images_per_s: float
    wall_s: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    wall_ratio: float | None = None
    gap: float | None = None
    different: str | None = None


def seconds(steps: Steps) -> float:
    """Return the seconds from the end of the first step to the end of training.

    >>> seconds(Steps(step_ends_s=(5.0, 6.0), end_s=6.5, losses=(1.0, 1.0)))
    1.5
    """
    return steps.end_s - steps.step_ends_s[0]


def images_per_s(steps: Steps, batch_size: int) -> float:
    """Return images / seconds of one window: all steps after the first one and the warm-up; NaN without such steps.

    >>> images_per_s(Steps(step_ends_s=(1.0, 3.0, 4.0, 5.0, 5.5, 6.0), end_s=9.0, losses=(1.0,) * 6), batch_size=4)
    8.0
    """
    window = steps.step_ends_s[WARM_UP:]
    return batch_size * (len(window) - 1) / (window[-1] - window[0]) if len(window) > 1 else math.nan


def difference(theirs: Sequence[float], ours: Sequence[float], tolerances: Sequence[float]) -> str | None:
    """Return a sentence about the first loss that differs, or None. There is a tolerance for each loss compared.

    >>> difference((2.0, 1.9, 1.5), (2.0, 1.9001, 1.6), FIRST)
    >>> difference((2.0, 1.8), (2.0, 1.9), FIRST)
    'loss of step 2 is 1.8 instead of 1.9'
    """
    if len(theirs) != len(ours):
        return f"{len(theirs)} steps instead of {len(ours)}"
    for step, (their, our, tolerance) in enumerate(zip(theirs, ours, tolerances, strict=False), 1):
        if not abs(their - our) <= tolerance * abs(our):
            return f"loss of step {step} is {their:.9g} instead of {our:.9g}"
    return None


def judge(
    measured: Mapping[str, Sequence[Steps]],
    proofs: Mapping[str, Steps],
    beside: Mapping[str, str],
    limits: Mapping[str, float],
    batch_size: int,
) -> list[Loop]:
    """Return every loop's figures.

    `measured` has the rounds of each loop, `proofs` its losses in float64, `beside` this project's loop of each peer,
    and `limits` the largest relative difference of a loss of a peer in its proof. A ratio compares two processes of
    the same round.
    """
    found = []
    for name, rounds in measured.items():
        loop = Loop(
            name=name,
            beside=beside.get(name),
            rounds=len(rounds),
            seconds=median([seconds(steps) for steps in rounds]).value,
            images_per_s=median([images_per_s(steps, batch_size) for steps in rounds]).value,
            wall_s=median([steps.wall_s for steps in rounds]).value,
        )
        if name in beside:
            ours = beside[name]
            their, our = proofs[name].losses, proofs[ours].losses
            if different := difference(their, our, [limits[name]] * len(our)):
                loop = msgspec.structs.replace(loop, different=f"in float64, {different}")
            else:
                gap = max(abs(one - other) / abs(other) for one, other in zip(their, our, strict=True))
                loop = _with_ratio(msgspec.structs.replace(loop, gap=gap), rounds, measured[ours])
        found.append(loop)
    return found


def _with_ratio(loop: Loop, theirs: Sequence[Steps], ours: Sequence[Steps]) -> Loop:
    pairs = list(zip(theirs, ours, strict=True))
    if different := next((d for their, our in pairs if (d := difference(their.losses, our.losses, FIRST))), None):
        return msgspec.structs.replace(loop, different=different)
    ratio = median(np.array([seconds(their) / seconds(our) for their, our in pairs]))
    wall = median(np.array([their.wall_s / our.wall_s for their, our in pairs]))
    low, high = (None if math.isnan(bound) else bound for bound in (ratio.low, ratio.high))
    return msgspec.structs.replace(loop, ratio=ratio.value, low=low, high=high, wall_ratio=wall.value)
