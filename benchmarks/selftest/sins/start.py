"""Sins at the start: the head and the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import harness.running.opening
from backends.reference.layers import Array, Linear
from benchmarks.selftest.machine import SimulatedMachine
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace, sin
from harness.contract import Model
from harness.running.initial_weights import head_arrays
from harness.spec import Case


@sin("head initialised differently", "V08")
def other_head(place: SinPlace) -> Iterator[None]:
    """Gross: drawn from another seed. Subtle: one weight is the next larger float."""

    def drawn(kind: Any, features: int, classes: int, init: Any, seed: int) -> dict[str, NDArray[np.float32]]:
        if place.gross:
            return head_arrays(kind, features, classes, init, seed + 1)
        arrays = head_arrays(kind, features, classes, init, seed)
        weight = arrays["head.weight"]
        index = int(place.draw.integers(weight.size))
        weight.flat[index] = np.nextafter(weight.flat[index], np.float32(1))
        return arrays

    with patch.object(harness.running.opening, "head_arrays", drawn):
        yield


@sin("some tensors of the checkpoint silently not loaded", "V02")
def not_loaded(place: SinPlace) -> Iterator[None]:
    """Gross: all tensors of the batch norms. Subtle: one tensor."""

    class Forgetful(SimulatedSession):
        def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
            backbone = [variable for variable in self.network.variables if variable.part == "backbone"]
            norms = {variable.name for variable in backbone if variable.role.startswith("norm")}
            left_out = norms if place.gross else {place.one_of(backbone).name}
            super().load({name: array for name, array in arrays.items() if name not in left_out})

    with second_backend(Forgetful):
        yield


class _Shadow:
    """A head that is listed while the old head gives the outputs."""

    def __init__(self, listed: Linear, old: Linear, outputs: int) -> None:
        self.name, self.variables = listed.name, listed.variables
        self._old, self._outputs = old, outputs

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        return self._old.forward(x, training)[0][:, : self._outputs], len(x)

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        for variable in self.variables:
            variable.gradient = np.zeros_like(variable.array)
        weight = self._old.weight.array[: self._outputs]
        return np.asarray(dy @ weight)


@sin("a head replaced in name only", "V08")
def in_name_only(place: SinPlace) -> Iterator[None]:
    """Gross: the old classifier gives the outputs, for its ten classes. Subtle: for as many classes as the task has."""

    class Unreplaced(SimulatedSession):
        def __init__(self, case: Case, model: Model, classes: int, machine: SimulatedMachine) -> None:
            super().__init__(case, model, classes, machine)
            listed = self.network.layers[-1]
            assert isinstance(listed, Linear)
            old = Linear("old", self.head_features, 10, self.dtype)
            old.weight.array[...] = place.draw.normal(0, 0.1, old.weight.array.shape)
            self.network.layers[-1] = _Shadow(listed, old, 10 if place.gross else classes)

    with second_backend(Unreplaced):
        yield
