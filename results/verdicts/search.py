"""A Bayesian search for the first bad candidate with noisy measurements.

A measurement is the log-ratio of the cost of a candidate over that of the first one. The search keeps a probability for
each possible first bad candidate, and measures where the result adds the most information.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MOST = 200
PRIOR_SD = 0.02
PRIOR_WEIGHT = 4.0
"""Prior of the scatter, and its weight in measurements."""

Measure = Callable[[int], float | None]
"""Measures the log-ratio of candidate i over candidate 0; None if the candidate cannot be built."""


class SearchResult(NamedTuple):
    """The most probable first bad candidate, None if there is none; `step` is its log-ratio.

    `posterior` has the probability of each candidate, and at index 0 that of no change.
    """

    first_bad: int | None
    probability: float
    step: float
    measurements: int
    posterior: tuple[float, ...]
    unbuildable: tuple[int, ...]


class Belief:
    """The probabilities of the first bad candidate, given the measurements.

    The log-ratio is 0 before the first bad candidate and `step` from it on, with normal scatter. `step` is at least
    `margin`. Each hypothesis has its marginal likelihood (Student's t for an unknown variance).
    """

    def __init__(self, candidates: int, margin: float) -> None:
        self._candidates, self._margin = candidates, margin
        self.values: dict[int, list[float]] = defaultdict(list)

    def add(self, candidate: int, value: float) -> None:
        """Add one measurement."""
        self.values[candidate].append(value)

    def posterior(self) -> NDArray[np.float64]:
        """Return the probabilities [candidates]: index 0 is no change, index i candidate i as the first bad."""
        places = np.array([place for place, measured in self.values.items() for _ in measured])
        values = np.array([value for measured in self.values.values() for value in measured])
        logs = np.array([self._evidence(places >= first, values) for first in range(1, self._candidates)])
        none = self._evidence(np.zeros(len(places), dtype=bool), values)
        every = np.concatenate([[none], logs])
        weights = np.exp(every - every.max())
        found: NDArray[np.float64] = weights / weights.sum()
        return found

    def step(self, first_bad: int) -> float:
        """Return the mean log-ratio from a candidate on; the margin without measurements there."""
        behind = [value for place, measured in self.values.items() if place >= first_bad for value in measured]
        return float(np.mean(behind)) if behind else self._margin

    def _evidence(self, behind: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
        """Return the log marginal likelihood: the step integrated over a grid, the variance analytically.

        The grid includes the largest value, since the rest of a larger step would count as scatter.
        """
        squares = float((values**2).sum())
        if not behind.any():
            return float(_likelihood(np.array(squares), len(values)))
        spacing = self._margin / 4
        steps = np.arange(self._margin, max(8 * self._margin, float(values.max())) + spacing, spacing)
        left = squares - 2 * steps * float(values[behind].sum()) + int(behind.sum()) * steps**2
        logs = _likelihood(np.maximum(left, 0.0), len(values))
        return float(np.logaddexp.reduce(logs)) - math.log(len(steps))


def _likelihood(squares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    found: NDArray[np.float64] = -(PRIOR_WEIGHT + count) / 2 * np.log(PRIOR_WEIGHT * PRIOR_SD**2 + squares)
    return found


def search(
    candidates: int, measure: Measure, margin: float, confidence: float = CONFIDENCE, most: int = MOST
) -> SearchResult:
    """Find the first bad candidate among 1 … candidates - 1; candidate 0 is good.

    Measures the last candidate first, then the one that splits the posterior most evenly. Stops at a probability of
    `confidence`, or after `most` measurements. The next candidate replaces one that cannot be built.
    """
    belief, unbuildable, count = Belief(candidates, margin), set[int](), 0
    posterior = np.full(candidates, 1 / candidates)
    while count < most and len(unbuildable) < candidates - 1:
        place = _next(posterior, unbuildable) if count else _nearest(candidates - 1, unbuildable, candidates)
        value = measure(place)
        if value is None:
            unbuildable.add(place)
            continue
        count += 1
        belief.add(place, value)
        posterior = _shared(belief.posterior(), unbuildable)
        if count > 1 and posterior.max() >= confidence:
            break
    best = int(posterior.argmax())
    return SearchResult(
        first_bad=best or None,
        probability=float(posterior[best]),
        step=belief.step(best) if best else 0.0,
        measurements=count,
        posterior=tuple(posterior.tolist()),
        unbuildable=tuple(sorted(unbuildable)),
    )


def _next(posterior: NDArray[np.float64], unbuildable: set[int]) -> int:
    """Return the candidate that splits the posterior most evenly."""
    bad = np.cumsum(posterior[1:])
    order = np.argsort(np.abs(bad - 0.5), kind="stable") + 1
    return next(int(place) for place in order if place not in unbuildable)


def _nearest(place: int, unbuildable: set[int], candidates: int) -> int:
    return min((p for p in range(1, candidates) if p not in unbuildable), key=lambda p: abs(p - place))


def _shared(posterior: NDArray[np.float64], unbuildable: set[int]) -> NDArray[np.float64]:
    """Move the probability of candidates that cannot be built to the next one that can."""
    shared = posterior.copy()
    for place in sorted(unbuildable):
        heirs = [p for p in range(place + 1, len(shared)) if p not in unbuildable]
        if heirs:
            shared[heirs[0]] += shared[place]
            shared[place] = 0.0
    return shared


class Trials(msgspec.Struct, frozen=True):
    """The result of simulated searches: share of right answers, mean and largest number of measurements."""

    trials: int
    right: float
    mean_measurements: float
    most_measurements: int


def simulate(trials: int, candidates: int = 64, step: float = 0.05, sd: float = 0.02, seed: int = 0) -> Trials:
    """Run searches over simulated revisions with a random first bad one and measurements with a scatter of `sd`."""
    draw = np.random.default_rng(seed)
    right, counts = 0, []
    for _ in range(trials):
        true = int(draw.integers(1, candidates))

        def measure(place: int, true: int = true) -> float:
            return float(sd * draw.standard_normal() + (math.log1p(step) if place >= true else 0.0))

        answer = search(candidates, measure, margin=math.log1p(0.03))
        right += answer.first_bad == true
        counts.append(answer.measurements)
    return Trials(trials, right / trials, float(np.mean(counts)), max(counts))
