"""Sins: ways to get a benchmark wrong, in a gross and a subtle form, at a place chosen by a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.selftest.experiments import ExperimentSetting


class SinPlace(NamedTuple):
    """The form and the place of a sin: `gross` or subtle, and random numbers for the place."""

    gross: bool
    draw: np.random.Generator

    def one_of(self, choices: Any) -> Any:
        """Choose one of several."""
        found = list(choices)
        return found[int(self.draw.integers(len(found)))]


class Sin(NamedTuple):
    """A sin, the rule for it, its experiment, and `plant(place)`, which commits it while the context is open."""

    name: str
    rule: str
    setting: ExperimentSetting
    plant: Callable[[SinPlace], AbstractContextManager[None]]


def sin(name: str, rule: str, **setting: Any) -> Callable[[Callable[[SinPlace], Iterator[None]]], Sin]:
    """Make a sin from a generator that yields once, while it commits the sin."""

    def made(plant: Callable[[SinPlace], Iterator[None]]) -> Sin:
        return Sin(name, rule, ExperimentSetting(**setting), contextmanager(plant))

    return made
