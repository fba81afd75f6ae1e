"""What a certificate asks of a session: the training step's own model, loss and optimizer, one piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3 import optimizers
from backends.keras3 import session as training
from backends.keras3.engine import to_numpy
from backends.keras3.models import maps
from backends.keras3.probing import autodiff
from harness.contract import Norm, Stochastic
from harness.spec import Part, Stage


class KerasProbe:
    """See `harness.contract.Probe`. With bf16, features are given as float32."""

    def __init__(self, session: training.KerasSession) -> None:
        self._session = session
        self._rows = {row.variable: row for row in session._table}
        self._dtype = np.float64 if session._case.precision == "fp64" else np.float32
        self._looker: Any = None
        self._differentiated: dict[Stage, autodiff.Gradients] = {}

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """What enters the next block's first layer with variables, before it is padded for that layer."""
        if self._looker is None:
            model = self._session._model
            self._looker = keras.Model(model.input, [*self._entrances(), model.output])
            self._looker.jit_compile = self._session._predictor.jit_compile
        found = self._looker.predict_on_batch(images)
        return [self._channels_second(np.asarray(one, self._dtype)) for one in found]

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """By each engine's autodiff through the compiled model and loss; JAX compiles each stage once."""
        model = self._session._model
        self._prepare(stage, [1.0])
        if stage not in self._differentiated:
            self._differentiated[stage] = autodiff.gradients_of(model)
        loss, gradients = self._differentiated[stage](images, labels)
        found = {}
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            row = self._rows[variable.path]
            if gradient is None:
                raise RuntimeError(f"{row.name} is trainable but no backward pass reached it")
            found[row.name] = maps.to_canonical(gradient, row.layout)
        return loss, {row.name: found[row.name] for row in self._session._table if row.name in found}

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """On TensorFlow and torch by `optimizer.apply`, on JAX by its compiled stateless form, as `fit` does."""
        self._prepare(stage, factors)
        variables = self._session._model.trainable_variables
        rows = [self._rows[variable.path] for variable in variables]
        update = autodiff.update_of(self._session._optimizer, variables)
        for _, gradients in zip(factors, tape, strict=True):
            update(
                [
                    maps.fitted(gradients[row.name], row, v.shape).astype(v.dtype)
                    for row, v in zip(rows, variables, strict=True)
                ]
            )
            yield {row.name: maps.to_canonical(to_numpy(v), row.layout) for row, v in zip(rows, variables, strict=True)}

    def rates(self) -> dict[Part, float]:
        """The optimizer's schedule at its latest step, times the base rate that it holds; empty before the first."""
        optimizer = self._session._optimizer
        found: dict[Part, float] = {}
        for own in getattr(optimizer, "optimizers", [] if optimizer is None else [optimizer]):
            step = int(to_numpy(optimizer.iterations)) - 1
            if step < 0:
                continue
            variables = own._trainable_variables
            factor = float(own._learning_rate(ops.convert_to_tensor(step)))
            for variable, base in zip(variables, getattr(own, "_rates", [1.0] * len(variables)), strict=True):
                found[self._session._parts[variable.path]] = factor * base
        return found

    def norms(self) -> list[Norm]:
        """As each layer holds them now; torch's momentum is one minus Keras', without the subtraction's last digits."""
        found = []
        for row in self._session._table:
            if row.role == "norm_mean":
                layer = self._session._model.get_layer(row.variable.rpartition("/")[0])
                found.append(Norm(_prefix(row), float(layer.epsilon), round(1.0 - layer.momentum, 12)))
        return found

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Drawn as the stage has each layer: one in a frozen block leaves ones alone."""
        session = self._session
        session._freeze(stage)
        found = []
        for layer in session._model.layers:
            if isinstance(layer, keras.layers.Dropout):
                part: Part = "backbone" if layer in session._blocks else "head"
                active = bool(getattr(layer, "active", True))
                drawn = self._draw(layer, draws)
                found.append(
                    Stochastic(self._place(layer), part, session._blocks.get(layer, -1), layer.rate, active, drawn)
                )
        return found

    def stand_ins(self) -> dict[str, str]:
        """Layers and optimizer of this package in place of Keras' own; none of them with `idiom`."""
        session = self._session
        found = {f"keras.layers.{kind.__name__}": kind for kind in map(type, session._model.layers) if _is_ours(kind)}
        if session._optimizer is not None and _is_ours(type(session._optimizer)):
            found[f"keras.optimizers.{optimizers.OWN[session._optimizer.constants.name].__name__}"] = type(
                session._optimizer
            )
        return {own: f"{kind.__module__}.{kind.__name__}" for own, kind in sorted(found.items())}

    def _prepare(self, stage: Stage, factors: Sequence[float]) -> None:
        """Freeze, make the stage's optimizer and compile, as `train` does."""
        session = self._session
        session._freeze(stage)
        variables = session._model.trainable_variables
        rates = {variable.path: stage.learning_rate(session._parts[variable.path]) for variable in variables}
        make = optimizers.idiomatic if session._case.idiom else optimizers.matched
        session._optimizer = make(stage.optimizer, stage.weight_decay, np.asarray(factors, np.float64), rates)
        session._model.compile(session._optimizer, training._loss(stage.label_smoothing), jit_compile=session._jit)
        session._optimizer.build(variables)

    def _entrances(self) -> list[Any]:
        """Symbolic tensors that enter block 1 and so on, and the one that enters the head."""
        session = self._session
        first: dict[int, Any] = {}
        for layer, block in session._blocks.items():
            if layer.weights and block:
                first.setdefault(block, layer)
        head = next(row for row in session._table if session._parts[row.variable] == "head")
        last = session._model.get_layer(head.variable.rpartition("/")[0])
        return [*(_unpadded(first[block].input) for block in sorted(first)), last.input]

    def _draw(self, layer: Any, draws: int) -> NDArray[Any]:
        flat = len(layer.input.shape) == 2
        last = self._session.batch_layout == "nhwc"
        shape = (draws, 12) if flat else (draws, 2, 2, 3) if last else (draws, 3, 2, 2)
        outcome = layer(ops.convert_to_tensor(np.ones(shape, self._dtype)), training=True)
        array = autodiff.array_of(outcome).astype(self._dtype)
        return array.reshape(draws, 3, 2, 2) if flat else self._channels_second(array)

    def _place(self, layer: Any) -> str:
        """Prefix of the block if whole images are dropped, which closes a residual block; of what it follows if not."""
        session = self._session
        if layer.noise_shape is not None and set(layer.noise_shape[1:]) == {1}:
            names = [row.name.split(".") for row in session._table if row.block == session._blocks.get(layer, -1)]
            alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))
            return ".".join(parts[0] for parts in alike)
        before = layer.input._keras_history.operation
        while not before.weights:
            before = before.input._keras_history.operation
        return _prefix(self._rows[before.weights[0].path])

    def _channels_second(self, array: NDArray[Any]) -> NDArray[Any]:
        turned = array.ndim == 4 and self._session.batch_layout == "nhwc"
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2) if turned else array)


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(optimizers.__package__ + ".")


def _prefix(row: maps.MappedVariable) -> str:
    return row.name.rpartition(".")[0]


def _unpadded(tensor: Any) -> Any:
    while isinstance(tensor._keras_history.operation, keras.layers.ZeroPadding2D):
        tensor = tensor._keras_history.operation.input
    return tensor
