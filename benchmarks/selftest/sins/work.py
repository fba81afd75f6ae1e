"""Sins in the work of a step: more or less than one forward, one backward and one update of a full batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from backends.reference.layers import Conv, Linear
from benchmarks.selftest.machine import SimulatedMachine
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace, sin
from harness.contract import Model
from harness.data.feed import Batch
from harness.spec import Case, Stage

STEPS = 36
"""The number of optimizer steps of all stages."""


@sin("two forwards per step", "V07")
def two_forwards(place: SinPlace) -> Iterator[None]:
    """Gross: in every step. Subtle: in one."""
    chosen = int(place.draw.integers(STEPS))

    class Twice(SimulatedSession):
        made = -1

        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.made += 1
            if place.gross or self.made == chosen:
                self.network.forward(batch.inputs, training=True)
            return super().step(batch, stage, factor)

    with second_backend(Twice):
        yield


@sin("a missing update", "V07")
def missing_update(place: SinPlace) -> Iterator[None]:
    """Gross: every second update is missing. Subtle: one is."""
    chosen = int(place.draw.integers(STEPS))

    class Lazy(SimulatedSession):
        made = -1

        def update(self, factor: float) -> None:
            self.made += 1
            if self.made % 2 == 0 if place.gross else self.made != chosen:
                super().update(factor)

    with second_backend(Lazy):
        yield


@sin("batch shrunk", "V45")
def shrunk(place: SinPlace) -> Iterator[None]:
    """Gross: every batch has half the images. Subtle: one batch has one image less."""
    chosen = int(place.draw.integers(STEPS))

    class Shrunk(SimulatedSession):
        made = -1

        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.made += 1
            whole = len(batch.ids)
            count = whole // 2 if place.gross else whole - (self.made == chosen)
            fewer = Batch(batch.ids[:count], batch.inputs[:count], batch.labels[:count])
            return super().step(fewer, stage, factor)

    with second_backend(Shrunk):
        yield


@sin("precision not what was declared", "V32")
def other_precision(place: SinPlace) -> Iterator[None]:
    """Gross: float64, and it is reported. Subtle: operands have TF32's eleven bits, but float32 is reported."""

    class Wide(SimulatedSession):
        def __init__(self, case: Case, model: Model, classes: int, machine: SimulatedMachine) -> None:
            super().__init__(case, model, classes, machine, np.float64)

    def cut(array: NDArray[Any]) -> NDArray[Any]:
        mantissa, exponent = np.frexp(array)
        return np.asarray(np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent), array.dtype)

    def cutting(forward: Callable[..., Any]) -> Callable[..., Any]:
        def narrow(layer: Any, x: NDArray[Any], training: bool) -> Any:
            kept, layer.weight.array = layer.weight.array, cut(layer.weight.array)
            try:
                return forward(layer, cut(x), training)
            finally:
                layer.weight.array = kept

        return narrow

    with ExitStack() as stack:
        if place.gross:
            stack.enter_context(second_backend(Wide))
        else:
            for kind in (Conv, Linear):
                stack.enter_context(patch.object(kind, "forward", cutting(kind.forward)))
        yield
