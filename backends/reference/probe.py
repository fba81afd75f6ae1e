"""The probe of a session, for certificates: it uses the parts of the training step separately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.reference.layers import BatchNorm, ReferenceDropout, Variable
from backends.reference.network import cross_entropy
from backends.reference.session import ReferenceSession
from harness.contract import Norm, Stochastic
from harness.spec import Part, Stage


class ReferenceProbe:
    """A `harness.contract.Probe`."""

    def __init__(self, session: ReferenceSession) -> None:
        self._session, self._network = session, session.network

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the inputs of the first layer with tensors in each next block, then logits."""
        x, block = images.astype(self._session.dtype), 0
        found: list[NDArray[Any]] = []
        for layer in self._network.layers:
            entered = layer.variables[0].block if layer.variables else block
            if entered != block:
                found.append(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
                block = entered
            x, _ = layer.forward(x, training=False)
        return [*found, x]

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """Run the network's own backward pass."""
        trained = self._declare(stage)
        logits, tape = self._network.forward(images.astype(self._session.dtype), training=True)
        loss, gradient = cross_entropy(logits, labels, stage.label_smoothing)
        self._network.backward(gradient, tape)
        return loss, {variable.name: _gradient(variable) for variable in trained}

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Store the given gradients as the backward pass does, and step."""
        trained = self._session.begin(stage)
        for factor, gradients in zip(factors, tape, strict=True):
            for variable in trained:
                variable.gradient = gradients[variable.name].astype(self._session.dtype)
            self._session.update(factor)
            yield {variable.name: variable.array.copy() for variable in trained}

    def rates(self) -> dict[Part, float]:
        """Return the rates that the optimizer noted; empty before the first step."""
        return {} if self._session.updates is None else dict(self._session.updates.rates)

    def norms(self) -> list[Norm]:
        """Read the layers' current constants."""
        norms = (layer for layer in self._network.layers if isinstance(layer, BatchNorm))
        return [Norm(layer.name, layer.EPS, layer.momentum) for layer in norms]

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Return the dropout layer of the MLP head, if there is one."""
        self._declare(stage)
        found = []
        before = self._network.variables[0]
        for layer in self._network.layers:
            before = layer.variables[0] if layer.variables else before
            if isinstance(layer, ReferenceDropout):
                drawn, _ = layer.forward(np.ones((draws, 12), self._session.dtype), training=True)
                name = before.name.rpartition(".")[0]
                drawn = drawn.reshape(draws, 3, 2, 2)
                found.append(Stochastic(name, before.part, before.block, layer.rate, True, drawn))
        return found

    def stand_ins(self) -> dict[str, str]:
        """Return nothing: this backend implements the canonical definitions."""
        return {}

    def _declare(self, stage: Stage) -> list[Variable]:
        trained = self._network.declare(stage, self._session.case.seed)
        for variable in self._network.variables:
            variable.gradient = None
        return trained


def _gradient(variable: Variable) -> NDArray[Any]:
    if variable.gradient is None:
        raise RuntimeError(f"{variable.name} is trainable, but no backward pass reached it")
    return np.ascontiguousarray(variable.gradient)
