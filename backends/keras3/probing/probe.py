"""The probe of a session, for certificates: it uses the model, loss and optimizer of the training step separately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3 import fitting, optimizers
from backends.keras3.engine import to_numpy
from backends.keras3.layers import dotted
from backends.keras3.models import maps
from backends.keras3.probing import autodiff
from backends.keras3.session import KerasSession
from backends.keras3.tensors import array_of
from harness.contract import Norm, Stochastic
from harness.spec import Part, Stage


class KerasProbe:
    """A `harness.contract.Probe`. With bf16, features are converted to float32."""

    def __init__(self, session: KerasSession) -> None:
        self._session = session
        self._rows = {row.variable: row for row in session.table}
        self._makers = {id(layer.output): layer for layer in session.model.layers}
        self._dtype = np.float64 if session.case.precision == "fp64" else np.float32
        self._looker: Any = None
        self._differentiated: dict[Stage, autodiff.Gradients] = {}

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the inputs of the first layer with variables in each next block, before the padding for that layer."""
        if self._looker is None:
            model = self._session.model
            self._looker = fitting.TracedModel(model.input, [*self._entrances(), model.output])
            self._looker.jit_compile = self._session.jit
        found = self._looker.predict_on_batch(images)
        return [self._channels_second(np.asarray(one, self._dtype)) for one in found]

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """Differentiate the compiled model and loss with the engine's autodiff; JAX compiles once per stage."""
        model = self._session.model
        self._session.compile_stage(stage, np.ones(1))
        if stage not in self._differentiated:
            self._differentiated[stage] = autodiff.gradients_of(model)
        loss, gradients = self._differentiated[stage](images, labels)
        found = {}
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            row = self._rows[variable.path]
            if gradient is None:
                raise RuntimeError(f"{row.name} is trainable, but no backward pass reached it")
            found[row.name] = maps.to_canonical(gradient, row.layout)
        return loss, {row.name: found[row.name] for row in self._session.table if row.name in found}

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Use `optimizer.apply` on TensorFlow and torch, and its compiled stateless form on JAX, as `fit` does."""
        self._session.compile_stage(stage, np.asarray(factors, np.float64))
        variables = self._session.model.trainable_variables
        rows = [self._rows[variable.path] for variable in variables]
        update = autodiff.update_of(self._session.optimizer, variables)
        for _, gradients in zip(factors, tape, strict=True):
            update(
                [
                    maps.fitted(gradients[row.name], row, v.shape).astype(v.dtype)
                    for row, v in zip(rows, variables, strict=True)
                ]
            )
            yield {row.name: maps.to_canonical(to_numpy(v), row.layout) for row, v in zip(rows, variables, strict=True)}

    def rates(self) -> dict[Part, float]:
        """Return the schedule's value at the latest step times the base rate; empty before the first step."""
        session = self._session
        rates = {} if session.optimizer is None else optimizers.latest_rates(session.optimizer)
        return {session.parts[path]: rate for path, rate in rates.items()}

    def norms(self) -> list[Norm]:
        """Read the layers' current constants; torch's momentum is one minus Keras', rounded to 12 digits."""
        found = []
        for row in self._session.table:
            if row.role == "norm_mean":
                layer = self._session.model.get_layer(row.variable.rpartition("/")[0])
                found.append(Norm(_prefix(row), float(layer.epsilon), round(1.0 - layer.momentum, 12)))
        return found

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Call each layer in its mode for the stage; in a frozen block it returns ones unchanged."""
        session = self._session
        session.freeze(stage)
        found = []
        for layer in session.model.layers:
            if isinstance(layer, keras.layers.Dropout):
                part: Part = "backbone" if layer in session.blocks else "head"
                active = bool(getattr(layer, "active", True))
                drawn = self._draw(layer, draws)
                found.append(
                    Stochastic(self._place(layer), part, session.blocks.get(layer, -1), layer.rate, active, drawn)
                )
        return found

    def stand_ins(self) -> dict[str, str]:
        """Return the layers and the optimizer of this package that replace Keras' own; empty with `idiom`."""
        session = self._session
        found = {f"keras.layers.{kind.__name__}": kind for kind in map(type, session.model.layers) if _is_ours(kind)}
        if session.optimizer is not None and _is_ours(type(session.optimizer)):
            found[f"keras.optimizers.{optimizers.OWN[session.optimizer.constants.name].__name__}"] = type(
                session.optimizer
            )
        return {own: dotted(kind) for own, kind in sorted(found.items())}

    def _entrances(self) -> list[Any]:
        # Symbolic inputs of blocks 1, 2, …, and of the head.
        session = self._session
        first: dict[int, Any] = {}
        for layer, block in session.blocks.items():
            if layer.weights and block:
                first.setdefault(block, layer)
        head = next(row for row in session.table if session.parts[row.variable] == "head")
        last = session.model.get_layer(head.variable.rpartition("/")[0])
        return [*(self._unpadded(first[block].input) for block in sorted(first)), last.input]

    def _unpadded(self, tensor: Any) -> Any:
        while isinstance(padding := self._makers[id(tensor)], keras.layers.ZeroPadding2D):
            tensor = padding.input
        return tensor

    def _draw(self, layer: Any, draws: int) -> NDArray[Any]:
        flat = len(layer.input.shape) == 2
        last = self._session.batch_layout == "nhwc"
        shape = (draws, 12) if flat else (draws, 2, 2, 3) if last else (draws, 3, 2, 2)
        outcome = layer(ops.convert_to_tensor(np.ones(shape, self._dtype)), training=True)
        array = array_of(outcome).astype(self._dtype)
        return array.reshape(draws, 3, 2, 2) if flat else self._channels_second(array)

    def _place(self, layer: Any) -> str:
        # Dropping whole images ends a residual block, so the prefix is the block's; otherwise the previous layer's.
        session = self._session
        if layer.noise_shape is not None and set(layer.noise_shape[1:]) == {1}:
            names = [row.name.split(".") for row in session.table if row.block == session.blocks.get(layer, -1)]
            alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))
            return ".".join(parts[0] for parts in alike)
        before = self._makers[id(layer.input)]
        while not before.weights:
            before = self._makers[id(before.input)]
        return _prefix(self._rows[before.weights[0].path])

    def _channels_second(self, array: NDArray[Any]) -> NDArray[Any]:
        turned = array.ndim == 4 and self._session.batch_layout == "nhwc"
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2) if turned else array)


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(optimizers.__package__ + ".")


def _prefix(row: maps.MappedVariable) -> str:
    return row.name.rpartition(".")[0]
