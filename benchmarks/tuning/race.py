"""A race of settings: which to measure next, which cannot win, and when the leader is certain.

A sample is the log of a setting's training time over that of the plain settings, from one pair of processes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import scipy

PLAIN = ""
"""The plain settings; their log ratio is 0 by definition."""
MARGIN = 0.03
"""The race ends when the leader is at most this much slower than any other setting."""
CONFIDENCE = 0.975
PRIOR_SD, PRIOR_WEIGHT = 0.03, 4
"""The assumed noise of a sample, and the number of samples that it counts as, until enough are measured."""
LEAST = 3
"""The smallest number of samples of the leader."""


class Standing(NamedTuple):
    """One setting in a race: log ratio with its interval, number of samples, and whether it cannot win."""

    name: str
    value: float
    low: float
    high: float
    samples: int
    dropped: bool

    @property
    def speed_up(self) -> tuple[float, float, float]:
        """How many times faster than plain, with the interval."""
        return math.exp(-self.value), math.exp(-self.high), math.exp(-self.low)


class Race:
    """A race of named settings against the plain ones, which take part as `PLAIN`."""

    def __init__(self, names: Sequence[str], margin: float = MARGIN) -> None:
        self._samples: dict[str, list[float]] = {name: [] for name in names}
        self._dropped: set[str] = set()
        self._margin = math.log(1 + margin)
        self._noise = self._pooled()

    def enter(self, name: str) -> None:
        """Add a setting to the race."""
        self._samples[name] = []

    def next(self) -> str | None:
        """Return the setting to measure next: the one with the fewest samples; None when the leader is certain."""
        active = [name for name in self._samples if name not in self._dropped]
        waiting = min(active, key=lambda name: len(self._samples[name]), default=None)
        if waiting is None or (self._samples[waiting] and self._decided()):
            return None
        if len(self._samples[waiting]) >= LEAST:  # the undecided ones are those near the leader
            leader = self.leader()
            rivals = [name for name in active if not self._far_enough(leader, name)]
            waiting = min([*rivals, *([leader] if leader != PLAIN else [])], key=lambda name: len(self._samples[name]))
        return waiting

    def add(self, name: str, log_ratio: float) -> None:
        """Note a sample, and drop the settings that cannot win."""
        self._samples[name].append(log_ratio)
        self._noise = self._pooled()
        leader = self.leader()
        for other, samples in self._samples.items():
            if samples and other != leader and self._value(other) - self._value(leader) > self._reach(other, leader):
                self._dropped.add(other)

    def drop(self, name: str) -> None:
        """Take a setting out of the race, for example because it cannot run or is not proved equal."""
        self._dropped.add(name)
        self._samples[name] = []
        self._noise = self._pooled()

    def leader(self) -> str:
        """Return the setting with the shortest training time so far."""
        measured = [name for name, samples in self._samples.items() if samples]
        return min([PLAIN, *measured], key=self._value)

    def standings(self) -> list[Standing]:
        """Return the measured settings, the fastest first."""
        found = []
        for name, samples in self._samples.items():
            if samples:
                value, half = self._value(name), self._reach(name, PLAIN)
                found.append(Standing(name, value, value - half, value + half, len(samples), name in self._dropped))
        return sorted(found, key=lambda one: one.value)

    def _decided(self) -> bool:
        leader = self.leader()
        if leader != PLAIN and len(self._samples[leader]) < LEAST:
            return False
        active = (name for name in (PLAIN, *self._samples) if name not in self._dropped)
        return all(self._far_enough(leader, name) for name in active)

    def _far_enough(self, leader: str, other: str) -> bool:
        """Return whether the leader is at most the margin slower than another setting."""
        return leader == other or self._value(leader) - self._value(other) + self._reach(leader, other) <= self._margin

    def _value(self, name: str) -> float:
        samples = self._samples.get(name)
        return sum(samples) / len(samples) if samples else 0.0

    def _reach(self, one: str, other: str) -> float:
        """Return the half interval of the difference of two settings."""
        counts = [len(self._samples.get(name, ())) for name in (one, other)]
        return self._noise * math.sqrt(sum(1 / count for count in counts if count))

    def _pooled(self) -> float:
        """Return the half interval of one sample, with the noise pooled over all settings."""
        squares, weight = PRIOR_WEIGHT * PRIOR_SD**2, PRIOR_WEIGHT
        for name, samples in self._samples.items():
            squares += sum((sample - self._value(name)) ** 2 for sample in samples)
            weight += max(0, len(samples) - 1)
        return _quantile(weight) * math.sqrt(squares / weight)


@functools.cache
def _quantile(degrees: int) -> float:
    return float(scipy.stats.t.ppf(CONFIDENCE, degrees))
