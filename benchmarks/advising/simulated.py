"""Made-up problems with known learning curves, and how well `advise` does on them beside a grid and random search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.advising.interval import score
from benchmarks.advising.policy import PROBE, Advising, Contender, Trial
from harness.errors import Declined

METHODS = ("full", "freeze-conv", "small-lr-conv", "two-stage")
PASSES = {"full": 3.0, "freeze-conv": 1.5, "small-lr-conv": 3.0, "two-stage": 4.0, PROBE: 0.1}
"""Cost of an epoch of each method, relative to a forward pass over the training images."""
LENGTHS = (0.25, 0.5, 1.0)
EPOCHS = 25
ALIKE = 0.6
"""Correlation of two networks' margins on the same image."""


class MadeUpProblem(NamedTuple):
    """A made-up problem: final accuracies, speeds of learning, costs, and numbers of images."""

    networks: tuple[str, ...]
    final: dict[tuple[str, str], float]
    start: float
    rate: dict[tuple[str, str], float]
    epoch_s: dict[str, float]
    start_s: float
    seed_sd: float
    train: int
    validation: int
    test: int
    budget_s: float

    def accuracy(self, contender: Contender) -> float:
        """Return the expected accuracy of a contender: an exponential curve from chance to its final value."""
        pair, epochs = contender[:2], EPOCHS * LENGTHS[contender.rung]
        return self.final[pair] - (self.final[pair] - self.start) * math.exp(-epochs / self.rate[pair])

    def cost(self, contender: Contender) -> float:
        """Return the seconds of a run."""
        return (
            self.start_s + self.epoch_s[contender.network] * PASSES[contender.method] * EPOCHS * LENGTHS[contender.rung]
        )

    def contenders(self) -> list[Contender]:
        """Return every contender at full length."""
        return [Contender(n, m, len(LENGTHS) - 1) for n in self.networks for m in (PROBE, *METHODS)]


def problem(seed: int) -> MadeUpProblem:
    """Return a problem: one to six networks, 80 to 2 000 training images, a budget for 2 to 40 runs."""
    draw = np.random.default_rng([seed, 1])
    networks = tuple(f"network {n}" for n in range(1, int(draw.integers(1, 7)) + 1))
    classes = int(draw.choice([2, 3, 5, 10, 20]))
    train = int(np.exp(draw.uniform(np.log(80), np.log(2_000))))
    level, spread, gain = draw.uniform(0.2, 3.0), draw.uniform(0.1, 0.8), draw.uniform(0.05, 0.4)
    final, rate = {}, {}
    for network in networks:
        quality = level + draw.normal(0, spread)
        for method in (PROBE, *METHODS):
            logit = quality + (draw.normal(-0.1, 0.15) if method == PROBE else draw.normal(0, gain))
            final[network, method] = 1 / classes + (1 - 1 / classes) / (1 + math.exp(-logit))
            rate[network, method] = float(draw.uniform(0.5, 3.0) if method == PROBE else draw.uniform(1.0, 8.0))
    epoch_s = {network: float(np.exp(draw.uniform(np.log(0.2), np.log(4.0)))) for network in networks}
    mean_s = 6.0 + 2.5 * EPOCHS * float(np.mean(list(epoch_s.values())))
    return MadeUpProblem(
        networks, final, 1 / classes, rate, epoch_s, 6.0, float(draw.uniform(0.003, 0.02)), train,
        max(8, round(0.2 * train)), max(20, round(train * draw.uniform(0.2, 1.0))),
        mean_s * float(np.exp(draw.uniform(np.log(2), np.log(40)))),
    )  # fmt: skip


class SimulatedField:
    """A `Field` on a problem. All contenders see the same images; a seed moves the accuracy of a run."""

    networks: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    rungs = len(LENGTHS)
    safety = 1.15

    def __init__(self, made: MadeUpProblem, seed: int) -> None:
        self._problem, self._draw = made, np.random.default_rng([seed, 2])
        self.networks, self.total, self.spent = made.networks, made.budget_s, 0.0
        self._train = self._draw.normal(size=made.train)
        self._test = self._draw.normal(size=made.test)
        self._folds = [self._draw.permutation(made.train)[: made.validation] for _ in range(10)]
        self.tests: dict[Contender, list[float]] = {}

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.total - self.spent

    def guess(self, contender: Contender) -> float:
        """Return a cost that is wrong by the same factor for all contenders."""
        return 0.5 * self._problem.cost(contender)

    def run(self, contender: Contender, replicate: int) -> Trial:
        """Draw which validation and test images are right; keep the test accuracy for `exam`."""
        share = self._problem.accuracy(contender) + self._draw.normal(0, self._problem.seed_sd)
        right = self._right(self._train[self._folds[replicate]], share)
        self.tests.setdefault(contender, []).append(float(self._right(self._test, share).mean()))
        cost = self._problem.cost(contender) * math.exp(self._draw.normal(0, 0.1))
        self.spent += cost
        if self.spent > self.total * 1.1:
            raise Declined("the budget is over")
        accuracy = float(right.mean())
        return Trial(accuracy, 1 - accuracy, cost, cost)

    def images(self, replicates: int) -> int:
        """Return the expected number of different validation images in several folds."""
        made = self._problem
        return max(1, round(made.train * (1 - (1 - made.validation / made.train) ** replicates)))

    def _right(self, difficulty: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
        own = self._draw.normal(size=len(difficulty))
        margin = math.sqrt(ALIKE) * difficulty + math.sqrt(1 - ALIKE) * own
        return margin < stats.norm.ppf(min(max(share, 1e-6), 1 - 1e-6))


class Played(NamedTuple):
    """How a way of choosing did on a problem, against the best case that fits into the budget.

    `regret` is the difference of expected accuracies, `near` whether it is within the resolution of the test images,
    `holds` whether the interval holds the expected accuracy, `used` the share of the budget. Without a choice, regret
    is measured from chance.
    """

    regret: float
    near: bool
    holds: bool
    used: float
    chose: bool


def advised(made: MadeUpProblem, seed: int) -> Played:
    """Choose with the policy of `advise`."""
    field = SimulatedField(made, seed)
    leader = Advising(field).choose().leader
    return _judged(made, field, leader.contender if leader else None)


def in_order(made: MadeUpProblem, seed: int) -> Played:
    """Run the grid network by network at full length, and choose the highest validation accuracy."""
    return _searched(made, seed, made.contenders())


def at_random(made: MadeUpProblem, seed: int) -> Played:
    """Run the same cases in random order."""
    order = np.random.default_rng([seed, 3]).permutation(len(made.contenders()))
    return _searched(made, seed, [made.contenders()[index] for index in order])


WAYS: dict[str, Callable[[MadeUpProblem, int], Played]] = {
    "advise": advised,
    "grid in order": in_order,
    "random search": at_random,
}


def _searched(made: MadeUpProblem, seed: int, contenders: Sequence[Contender]) -> Played:
    field = SimulatedField(made, seed)
    found: dict[Contender, float] = {}
    for contender in contenders:
        if made.cost(contender) * field.safety <= field.left():
            found[contender] = field.run(contender, 0).accuracy
    return _judged(made, field, max(found, key=lambda contender: found[contender], default=None))


def _judged(made: MadeUpProblem, field: SimulatedField, chosen: Contender | None) -> Played:
    oracle = max(
        (made.accuracy(contender) for contender in made.contenders() if made.cost(contender) <= made.budget_s),
        default=made.start,
    )
    if chosen is None:
        return Played(oracle - made.start, False, False, field.spent / field.total, chose=False)
    truth, found = made.accuracy(chosen), score(field.tests[chosen], made.test)
    return Played(
        max(0.0, oracle - truth),
        oracle - truth <= found.resolution,
        found.low <= truth <= found.high,
        field.spent / field.total,
        chose=True,
    )
