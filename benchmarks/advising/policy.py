"""The policy of `advise`: which run comes next within a budget, and which case leads.

It probes every network, races fine-tuning of the promising ones by successive halving over their length, and repeats
the leader and its rivals with other seeds and folds. It sees validation images only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import NamedTuple, Protocol

from harness.errors import Declined

PROBE = "probe"
"""The method that trains only a classifier on kept features, at full length; it costs little beside the others."""
REPLICATES = 5
"""The largest number of runs of one arm: each has a seed and, where possible, validation images of its own."""
LEAST = 2
"""The number of runs of a leader without rivals."""
PROBING, REPEATING = 0.25, 3
"""Probes are repeated until this share of the budget is used, at most this often."""
APART = 1.96
"""Standard errors of a difference from which two arms are told apart (95 %)."""
PROMISING = 1.3
"""Standard errors by which a probe may be worse than the best one, so that its network is fine-tuned."""
SEED_SD = 0.015
"""The assumed standard deviation of accuracy between seeds."""
ALIKE = 0.5
"""The assumed correlation of two arms' errors on the same images."""
NO_TIME = "no time was left"


class Arm(NamedTuple):
    """A network, a method, and a length: rung 0 is the shortest training."""

    network: str
    method: str
    rung: int


class Trial(NamedTuple):
    """One run: accuracy and loss on its validation images, cost in the unit of the budget, seconds of training."""

    accuracy: float
    loss: float
    cost: float
    training_s: float


class Field(Protocol):
    """What the policy can run. `total` is the budget, in seconds or in runs; `rungs` is the number of lengths.

    A run begins only if `safety` times its expected cost is left.
    """

    networks: tuple[str, ...]
    methods: tuple[str, ...]
    rungs: int
    total: float
    safety: float

    def left(self) -> float:
        """Return what is left of the budget."""

    def guess(self, arm: Arm) -> float:
        """Return a rough cost of a run; only ratios of these values count once a run was measured."""

    def run(self, arm: Arm, replicate: int) -> Trial:
        """Run an arm with the seed and fold of a replicate. Raise `Declined` if it cannot run."""

    def images(self, replicates: int) -> int:
        """Return the number of different validation images of the first replicates."""


class Standing(NamedTuple):
    """An arm with its runs: mean validation accuracy, and its distance from the leader in standard errors."""

    arm: Arm
    accuracy: float
    training_s: float
    runs: int
    distance: float

    @property
    def behind(self) -> bool:
        """Whether the leader is better with 95 % confidence."""
        return self.distance > APART


class Choice(NamedTuple):
    """The outcome: standings with the leader first, arms and networks that were not tried with the reason, the cost.

    `spent` is the cost of each part of the policy. Without a measured arm, `standings` is empty.
    """

    standings: tuple[Standing, ...]
    not_tried: dict[str, str]
    spent: dict[str, float]

    @property
    def leader(self) -> Standing | None:
        """The arm with the highest accuracy."""
        return self.standings[0] if self.standings else None

    @property
    def rivals(self) -> tuple[Standing, ...]:
        """The arms that cannot be told from the leader."""
        return tuple(one for one in self.standings[1:] if not one.behind)


class Advising:
    """Spends the budget of a field. `choose` is called once."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._top = field.rungs - 1
        self._trials: dict[Arm, list[Trial]] = defaultdict(list)
        self._not_tried: dict[str, str] = {}
        self._spent: dict[str, float] = defaultdict(float)

    def choose(self) -> Choice:
        """Probe, race and repeat; return the standings."""
        promising = self._probe()
        self._race([Arm(network, method, 0) for network in promising for method in self._field.methods])
        self._repeat(self._finalists, "repeats", least=LEAST, most=REPLICATES)
        measured = {name_of(arm) for arm in self._finalists()}
        not_tried = {name: reason for name, reason in self._not_tried.items() if name not in measured}
        return Choice(tuple(self._standings(self._finalists())), not_tried, dict(self._spent))

    def _probe(self) -> list[str]:
        """Probe every network and return the promising ones, the best first; without probes, all of them."""
        probes = [Arm(network, PROBE, self._top) for network in self._field.networks]
        for arm in sorted(probes, key=self._expected):
            self._try(arm, 0, "probes")
        known = [arm for arm in probes if self._trials[arm]]
        if not known:
            return [arm.network for arm in probes if self._not_tried.get(name_of(arm)) != NO_TIME]
        kept = self._field.total * (1 - PROBING)
        self._repeat(lambda: known, "probes", least=1, most=REPEATING, apart=PROMISING, keep=kept)
        standings = list(self._standings(known))
        for one in standings:
            if one.distance > PROMISING:
                self._not_tried[f"fine-tuning of {one.arm.network}"] = "its linear probe is worse"
        return [one.arm.network for one in standings if one.distance <= PROMISING]

    def _race(self, arms: list[Arm]) -> None:
        """Run the arms at a short length, continue with the better half, until the full length.

        If all fit at full length into half of what is left, they run at full length at once.
        """
        full = [arm._replace(rung=self._top) for arm in arms]
        if sum(map(self._expected, full)) <= self._field.left() / 2:
            arms = full
        while arms:
            for arm in arms:
                self._try(arm, 0, "race", keep=self._reserve(arm))
            ran = sorted((arm for arm in arms if self._trials[arm]), key=self._rank)
            if not ran or ran[0].rung == self._top:
                return
            arms = [arm._replace(rung=arm.rung + 1) for arm in ran[: math.ceil(len(ran) / 2)]]

    def _reserve(self, arm: Arm) -> float:
        """Return the cost of the best short run at full length, which must remain possible; 0 if it already is not."""
        known = [other for other in self._trials if self._trials[other] and other.method != PROBE]
        best = min(known, key=self._rank, default=None)
        if best is None or self._top in (arm.rung, best.rung):
            return 0.0
        cost = self._expected(best._replace(rung=self._top)) * self._field.safety
        return cost if cost < self._field.left() else 0.0

    def _repeat(
        self,
        arms: Callable[[], list[Arm]],
        part: str,
        *,
        least: int,
        most: int,
        apart: float = APART,
        keep: float = 0.0,
    ) -> None:
        """Repeat the leader and its rivals in turn until they are told apart, have `most` runs, or nothing more fits.

        A leader without rivals gets `least` runs.
        """
        unable: set[Arm] = set()
        while True:
            close = [one for one in self._standings(arms()) if one.distance <= apart]
            enough = most if len(close) > 1 else least
            waiting = [one.arm for one in close if one.runs < enough and one.arm not in unable]
            fitting = [arm for arm in waiting if self._fits(arm, keep)]
            if not fitting:
                return
            arm = min(fitting, key=lambda one: (len(self._trials[one]), self._expected(one)))
            if not self._try(arm, len(self._trials[arm]), part, keep):
                unable.add(arm)

    def _try(self, arm: Arm, replicate: int, part: str, keep: float = 0.0) -> bool:
        if not self._fits(arm, keep):
            self._not_tried.setdefault(name_of(arm), NO_TIME)
            return False
        before = self._field.left()
        try:
            self._trials[arm].append(self._field.run(arm, replicate))
            self._not_tried.pop(name_of(arm), None)
        except Declined as reason:
            if not self._trials[arm]:
                self._not_tried[name_of(arm)] = str(reason)
            return False
        finally:
            self._spent[part] += before - self._field.left()
        return True

    def _fits(self, arm: Arm, keep: float) -> bool:
        return self._expected(arm) * self._field.safety <= self._field.left() - keep

    def _expected(self, arm: Arm) -> float:
        """Return the guess, corrected by the nearest measured runs: same arm or method, same network, any."""
        if self._trials.get(arm):
            return max(trial.cost for trial in self._trials[arm][-2:])
        ratios = [
            (other, trial.cost / self._field.guess(other)) for other, trials in self._trials.items() for trial in trials
        ]
        kinds = (
            [ratio for other, ratio in ratios if other[:2] == arm[:2]],
            [ratio for other, ratio in ratios if other.network == arm.network],
            [ratio for _, ratio in ratios],
        )
        found = next((kind for kind in kinds if kind), [1.0])
        return self._field.guess(arm) * median(found)

    def _finalists(self) -> list[Arm]:
        """Return each measured method of each network at its greatest length."""
        longest: dict[tuple[str, str], Arm] = {}
        for arm in sorted((arm for arm, trials in self._trials.items() if trials), key=lambda one: one.rung):
            longest[arm[:2]] = arm
        return list(longest.values())

    def _rank(self, arm: Arm) -> tuple[float, float]:
        trials = self._trials[arm]
        return -fmean(trial.accuracy for trial in trials), fmean(trial.loss for trial in trials)

    def _standings(self, arms: Sequence[Arm]) -> Iterator[Standing]:
        """Yield the arms by accuracy, then by loss; the first one leads."""
        ordered = sorted(arms, key=self._rank)
        for arm in ordered:
            trials, gap = self._trials[arm], self._rank(arm)[0] - self._rank(ordered[0])[0]
            yield Standing(
                arm,
                -self._rank(arm)[0],
                fmean(trial.training_s for trial in trials),
                len(trials),
                gap / self._error_between(arm, ordered[0]),
            )

    def _error_between(self, one: Arm, other: Arm) -> float:
        """Return the standard error of a difference: both arms see the same images, with seeds of their own."""
        runs = [len(self._trials[arm]) for arm in (one, other)]
        images = sum(self._image_variance(arm, min(runs)) for arm in (one, other))
        return math.sqrt(images * (1 - ALIKE) + sum(SEED_SD**2 / count for count in runs))

    def _image_variance(self, arm: Arm, runs: int) -> float:
        images = self._field.images(runs)
        share = (-self._rank(arm)[0] * images + 1) / (images + 2)  # not 0 if every image is right (Agresti and Coull)
        return share * (1 - share) / images


def name_of(arm: Arm) -> str:
    """Return the name of an arm without its length.

    >>> name_of(Arm("resnet18", "full", 0))
    'full of resnet18'
    """
    return f"{arm.method} of {arm.network}"
