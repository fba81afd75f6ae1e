"""The first bad of many candidates, found under noise: a Bayesian search whose measurements may lie.

Each measurement is a log-ratio of a candidate's cost over the first candidate's, with the scatter of a pair. What is
believed of every possible change is kept as a probability; the next measurement is where it tells most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MOST = 200
PRIOR_SD = 0.02
PRIOR_WEIGHT = 4.0
"""What is believed of the scatter before anything is measured, worth so many measurements."""

Measure = Callable[[int], float | None]
"""The log-ratio of candidate i over candidate 0, measured once more; None if the candidate cannot be built."""


class SearchResult(NamedTuple):
    """`first_bad` is the likeliest candidate, by its place; None if the last is no worse than the first. `step` is the
    log-ratio by which it got worse. `posterior` are the probabilities of every place, and of none at index 0."""

    first_bad: int | None
    probability: float
    step: float
    measurements: int
    posterior: tuple[float, ...]
    unbuildable: tuple[int, ...]


class Belief:
    """What the measurements so far say about where the cost rose, by one step that is not known.

    Before the step the log-ratio is 0, from it on it is `step`; both with normal scatter. The step is estimated from
    the measurements that each hypothesis puts behind it (with the prior that it is at least `margin`), the scatter
    from all, and each hypothesis is weighed by its marginal likelihood (Student's t, as for an unknown variance).
    """

    def __init__(self, candidates: int, margin: float) -> None:
        self._candidates, self._margin = candidates, margin
        self.values: dict[int, list[float]] = defaultdict(list)

    def add(self, candidate: int, value: float) -> None:
        """Take in one measurement."""
        self.values[candidate].append(value)

    def posterior(self) -> NDArray[np.float64]:
        """Probabilities [candidates]: index 0 is no change, index i that candidate i is the first bad."""
        places = np.array([place for place, own in self.values.items() for _ in own])
        values = np.array([value for own in self.values.values() for value in own])
        logs = np.array([self._evidence(places >= first, values) for first in range(1, self._candidates)])
        none = self._evidence(np.zeros(len(places), dtype=bool), values)
        every = np.concatenate([[none], logs])
        weights = np.exp(every - every.max())
        found: NDArray[np.float64] = weights / weights.sum()
        return found

    def step(self, first_bad: int) -> float:
        """Mean log-ratio from a candidate on; the margin where nothing was measured there."""
        behind = [value for place, own in self.values.items() if place >= first_bad for value in own]
        return float(np.mean(behind)) if behind else self._margin

    def _evidence(self, behind: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
        """Log marginal likelihood up to a constant: the step integrated over a grid, the variance analytically.

        The grid reaches as far as the largest value: were it to end before a large step, what is left over would pass
        for scatter, and the clearest steps would take the most measurements.
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

    Measures where the posterior is split most evenly, and the last candidate first. Stops once a place has a
    probability of `confidence`, or after `most` measurements. A candidate that cannot be built is left out, and the
    next one is measured in its place.
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
    """The candidate for which good and bad are most nearly as likely: where one answer tells most."""
    bad = np.cumsum(posterior[1:])
    order = np.argsort(np.abs(bad - 0.5), kind="stable") + 1
    return next(int(place) for place in order if place not in unbuildable)


def _nearest(place: int, unbuildable: set[int], candidates: int) -> int:
    return min((p for p in range(1, candidates) if p not in unbuildable), key=lambda p: abs(p - place))


def _shared(posterior: NDArray[np.float64], unbuildable: set[int]) -> NDArray[np.float64]:
    """The weight of what cannot be built goes to the next candidate that can: nobody can tell them apart."""
    shared = posterior.copy()
    for place in sorted(unbuildable):
        heirs = [p for p in range(place + 1, len(shared)) if p not in unbuildable]
        if heirs:
            shared[heirs[0]] += shared[place]
            shared[place] = 0.0
    return shared


class Trials(NamedTuple):
    """How a search did in simulated trials: share of right answers, and measurements on average and at most."""

    trials: int
    right: float
    mean_measurements: float
    most_measurements: int


def simulate(trials: int, candidates: int = 64, step: float = 0.05, sd: float = 0.02, seed: int = 0) -> Trials:
    """Search so many revisions with a step at a place that is drawn, through measurements with a scatter of `sd`."""
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
