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
"""The largest number of runs of one contender: each has a seed and, where possible, validation images of its own."""
LEAST = 2
"""The number of runs of a leader without rivals."""
PROBING, REPEATING = 0.25, 3
"""Probes are repeated until this share of the budget is used, at most this often."""
APART = 1.96
"""Standard errors of a difference from which two contenders are told apart (95 %)."""
PROMISING = 1.3
"""Standard errors by which a probe may be worse than the best one, so that its network is fine-tuned."""
SEED_SD = 0.015
"""The assumed standard deviation of accuracy between seeds."""
ALIKE = 0.5
"""The assumed correlation of two contenders' errors on the same images."""
NO_TIME = "no time was left"


class Contender(NamedTuple):
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

    def guess(self, contender: Contender) -> float:
        """Return a rough cost of a run; only ratios of these values count once a run was measured."""

    def run(self, contender: Contender, replicate: int) -> Trial:
        """Run a contender with the seed and fold of a replicate. Raise `Declined` if it cannot run."""

    def images(self, replicates: int) -> int:
        """Return the number of different validation images of the first replicates."""


class Ranked(NamedTuple):
    """A contender with its runs: mean validation accuracy, and its distance from the leader in standard errors."""

    contender: Contender
    accuracy: float
    training_s: float
    runs: int
    distance: float

    @property
    def behind(self) -> bool:
        """Whether the leader is better with 95 % confidence."""
        return self.distance > APART


class RaceResult(NamedTuple):
    """The outcome: standings with the leader first, and what was not tried with the reason.

    `spent` is the cost of each part of the policy. Without a measured contender, `standings` is empty.
    """

    standings: tuple[Ranked, ...]
    not_tried: dict[str, str]
    spent: dict[str, float]

    @property
    def leader(self) -> Ranked | None:
        """The contender with the highest accuracy."""
        return self.standings[0] if self.standings else None

    @property
    def rivals(self) -> tuple[Ranked, ...]:
        """The contenders that cannot be told from the leader."""
        return tuple(one for one in self.standings[1:] if not one.behind)


class Advising:
    """Spends the budget of a field. `choose` is called once."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._top = field.rungs - 1
        self._trials: dict[Contender, list[Trial]] = defaultdict(list)
        self._not_tried: dict[str, str] = {}
        self._spent: dict[str, float] = defaultdict(float)

    def choose(self) -> RaceResult:
        """Probe, race and repeat; return the standings."""
        promising = self._probe()
        self._race([Contender(network, method, 0) for network in promising for method in self._field.methods])
        self._repeat(self._finalists, "repeats", least=LEAST, most=REPLICATES)
        measured = {name_of(contender) for contender in self._finalists()}
        not_tried = {name: reason for name, reason in self._not_tried.items() if name not in measured}
        return RaceResult(tuple(self._standings(self._finalists())), not_tried, dict(self._spent))

    def _probe(self) -> list[str]:
        """Probe every network and return the promising ones, the best first; without probes, all of them."""
        probes = [Contender(network, PROBE, self._top) for network in self._field.networks]
        for contender in sorted(probes, key=self._expected):
            self._try(contender, 0, "probes")
        known = [contender for contender in probes if self._trials[contender]]
        if not known:
            return [contender.network for contender in probes if self._not_tried.get(name_of(contender)) != NO_TIME]
        kept = self._field.total * (1 - PROBING)
        self._repeat(lambda: known, "probes", least=1, most=REPEATING, apart=PROMISING, keep=kept)
        standings = list(self._standings(known))
        for one in standings:
            if one.distance > PROMISING:
                self._not_tried[f"fine-tuning of {one.contender.network}"] = "its linear probe is worse"
        return [one.contender.network for one in standings if one.distance <= PROMISING]

    def _race(self, contenders: list[Contender]) -> None:
        """Run the contenders at a short length, continue with the better half, until the full length.

        If all fit at full length into half of what is left, they run at full length at once.
        """
        full = [contender._replace(rung=self._top) for contender in contenders]
        if sum(map(self._expected, full)) <= self._field.left() / 2:
            contenders = full
        while contenders:
            for contender in contenders:
                self._try(contender, 0, "race", keep=self._reserve(contender))
            ran = sorted((contender for contender in contenders if self._trials[contender]), key=self._rank)
            if not ran or ran[0].rung == self._top:
                return
            contenders = [contender._replace(rung=contender.rung + 1) for contender in ran[: math.ceil(len(ran) / 2)]]

    def _reserve(self, contender: Contender) -> float:
        """Return the cost of the best short run at full length, which must remain possible; 0 if it already is not."""
        known = [other for other in self._trials if self._trials[other] and other.method != PROBE]
        best = min(known, key=self._rank, default=None)
        if best is None or self._top in (contender.rung, best.rung):
            return 0.0
        cost = self._expected(best._replace(rung=self._top)) * self._field.safety
        return cost if cost < self._field.left() else 0.0

    def _repeat(
        self,
        contenders: Callable[[], list[Contender]],
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
        unable: set[Contender] = set()
        while True:
            close = [one for one in self._standings(contenders()) if one.distance <= apart]
            enough = most if len(close) > 1 else least
            waiting = [one.contender for one in close if one.runs < enough and one.contender not in unable]
            fitting = [contender for contender in waiting if self._fits(contender, keep)]
            if not fitting:
                return
            contender = min(fitting, key=lambda one: (len(self._trials[one]), self._expected(one)))
            if not self._try(contender, len(self._trials[contender]), part, keep):
                unable.add(contender)

    def _try(self, contender: Contender, replicate: int, part: str, keep: float = 0.0) -> bool:
        if not self._fits(contender, keep):
            self._not_tried.setdefault(name_of(contender), NO_TIME)
            return False
        before = self._field.left()
        try:
            self._trials[contender].append(self._field.run(contender, replicate))
            self._not_tried.pop(name_of(contender), None)
        except Declined as reason:
            if not self._trials[contender]:
                self._not_tried[name_of(contender)] = str(reason)
            return False
        finally:
            self._spent[part] += before - self._field.left()
        return True

    def _fits(self, contender: Contender, keep: float) -> bool:
        return self._expected(contender) * self._field.safety <= self._field.left() - keep

    def _expected(self, contender: Contender) -> float:
        """Return the guess, corrected by the nearest measured runs: same contender or method, same network, any."""
        if self._trials.get(contender):
            return max(trial.cost for trial in self._trials[contender][-2:])
        ratios = [
            (other, trial.cost / self._field.guess(other)) for other, trials in self._trials.items() for trial in trials
        ]
        kinds = (
            [ratio for other, ratio in ratios if other[:2] == contender[:2]],
            [ratio for other, ratio in ratios if other.network == contender.network],
            [ratio for _, ratio in ratios],
        )
        found = next((kind for kind in kinds if kind), [1.0])
        return self._field.guess(contender) * median(found)

    def _finalists(self) -> list[Contender]:
        """Return each measured method of each network at its greatest length."""
        longest: dict[tuple[str, str], Contender] = {}
        for contender in sorted(
            (contender for contender, trials in self._trials.items() if trials), key=lambda one: one.rung
        ):
            longest[contender[:2]] = contender
        return list(longest.values())

    def _rank(self, contender: Contender) -> tuple[float, float]:
        trials = self._trials[contender]
        return -fmean(trial.accuracy for trial in trials), fmean(trial.loss for trial in trials)

    def _standings(self, contenders: Sequence[Contender]) -> Iterator[Ranked]:
        """Yield the contenders by accuracy, then by loss; the first one leads."""
        ordered = sorted(contenders, key=self._rank)
        for contender in ordered:
            trials, gap = self._trials[contender], self._rank(contender)[0] - self._rank(ordered[0])[0]
            yield Ranked(
                contender,
                -self._rank(contender)[0],
                fmean(trial.training_s for trial in trials),
                len(trials),
                gap / self._error_between(contender, ordered[0]),
            )

    def _error_between(self, one: Contender, other: Contender) -> float:
        """Return the standard error of a difference: both contenders see the same images, with seeds of their own."""
        runs = [len(self._trials[contender]) for contender in (one, other)]
        images = sum(self._image_variance(contender, min(runs)) for contender in (one, other))
        return math.sqrt(images * (1 - ALIKE) + sum(SEED_SD**2 / count for count in runs))

    def _image_variance(self, contender: Contender, runs: int) -> float:
        images = self._field.images(runs)
        share = (-self._rank(contender)[0] * images + 1) / (
            images + 2
        )  # not 0 if every image is right (Agresti and Coull)
        return share * (1 - share) / images


def name_of(contender: Contender) -> str:
    """Return the name of a contender without its length.

    >>> name_of(Contender("resnet18", "full", 0))
    'full of resnet18'
    """
    return f"{contender.method} of {contender.network}"
