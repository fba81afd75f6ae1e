"""What a sin is: a way to misbehave, in two magnitudes, at a place that a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.selftest.experiments import ExperimentSetting


class SinPlace(NamedTuple):
    """How badly and where: `gross` or the subtle way, and numbers to choose the place by."""

    gross: bool
    draw: np.random.Generator

    def one_of(self, choices: Any) -> Any:
        """One of several, by the seed."""
        found = list(choices)
        return found[int(self.draw.integers(len(found)))]


class Sin(NamedTuple):
    """A sin, the rule meant for it, and how to commit it: while `plant(place)` is open."""

    name: str
    rule: str
    setting: ExperimentSetting
    plant: Callable[[SinPlace], AbstractContextManager[None]]


def sin(name: str, rule: str, **setting: Any) -> Callable[[Callable[[SinPlace], Iterator[None]]], Sin]:
    """Make a generator that yields once, while it misbehaves, a sin."""

    def made(plant: Callable[[SinPlace], Iterator[None]]) -> Sin:
        return Sin(name, rule, ExperimentSetting(**setting), contextmanager(plant))

    return made
