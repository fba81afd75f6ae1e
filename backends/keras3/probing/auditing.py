"""The freeze audit of a Keras model, from its layers, seeds and optimizer after a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import keras
from numpy.typing import NDArray

from backends.keras3.randomness import random_layers
from backends.keras3.tensors import array_of, by_owner, frozen_layers, holds, members, places, view
from backends.keras3.weights.classifier import in_name_only, output_width
from harness.auditing.audit import Observed
from harness.auditing.auditor import CurrentTensor, Frozen, chosen
from harness.auditing.ledger import OnDemand, Slots, TensorChange, TensorMark, Watched, mark, out_of_reach
from harness.spec import Optimizer


class KerasWatch:
    """A `harness.auditing.auditor.Watch`. The default optimizer is the one that the model is compiled with."""

    def __init__(self, model: Any, frozen: Frozen, optimizer: Any, batch: Any, classes: int | None) -> None:
        self._model, self._given, self._batch, self._classes = model, optimizer, batch, classes
        names = [place.name for place in places(model) if place.kind != "seed"]
        self.frozen, self._whole = chosen(frozen, names, partial(members, model))

    def begin(self) -> None:
        """Note the seeds, the step count of the optimizer, and the frozen tensors that already have momentum."""
        self._seeds = self._marked_seeds()
        self._began = self._optimizer, self._iterations()
        self._momentum = {
            name
            for name, slots in self.slots().items()
            if name in self.frozen and any(slots[slot].any() for slot in slots)
        }

    def end(self) -> None:
        """Note the current variables and which of them are trainable; the model has no hooks to remove."""
        self._found = {place.name: place for place in places(self._model)}
        self._trainable = {id(variable) for variable in self._model.trainable_variables}

    @property
    def _optimizer(self) -> Any:
        return getattr(self._model, "optimizer", None) if self._given is None else self._given

    def _iterations(self) -> int:
        return 0 if self._optimizer is None else int(view(self._optimizer.iterations))

    def _marked_seeds(self) -> dict[str, TensorMark]:
        return mark(CurrentTensor(place.name, view(place.variable), "buffer") for place in self._seed_places())

    def _seed_places(self) -> Iterator[Any]:
        return (place for place in places(self._model) if place.kind == "seed")

    def tensors(self) -> Iterator[CurrentTensor]:
        """Yield views if the engine supports them, otherwise one copy at a time."""
        for place in places(self._model):
            if place.kind != "seed":
                yield CurrentTensor(place.name, view(place.variable), place.kind)

    def slots(self) -> Slots:
        """Return the state of the optimizer, as far as it is built."""
        owned = {} if self._optimizer is None else by_owner(self._model, self._optimizer.variables)
        return {
            name: OnDemand({slot: partial(view, variable) for slot, variable in slots.items()})
            for name, slots in owned.items()
        }

    def excuses(self, tensor: Watched, slots: Mapping[str, NDArray[Any]]) -> bool:
        """Return True without another cause, if the optimizer's state explains it or cannot be read."""
        if self._hindrance(tensor.name):
            return False
        rule, optimizer = _rule(self._optimizer), self._optimizer
        if rule is None or not slots or tensor.array.dtype.kind != "f":
            return True
        # The velocity of Keras' SGD already includes the learning rate.
        rate = 1.0 if rule.name == "sgd" else _rate(optimizer)
        return out_of_reach(tensor.array, slots, rule, rate, float(optimizer.weight_decay or 0.0))

    def explain(self, line: TensorChange) -> str:
        """Explain from the optimizer's variables, and from what is trainable, after the block."""
        if line.kind == "statistic" and not line.moved:
            layer = self._found[line.name].layer
            return "" if layer.trainable else "Keras updates it only while its layer is trainable"
        if line.kind != "parameter":
            return ""
        if not line.moved:
            return self._hindrance(line.name)
        if not self._is_held(line.name):
            return "the optimizer does not hold it"
        if not self._is_trainable(line.name):
            return "the step was compiled before it was frozen, compile again"
        also = {
            "decays weights": bool(self._optimizer.weight_decay),
            "had momentum for it": line.name in self._momentum,
        }
        return " and ".join(["the optimizer holds it", *(cause for cause, true in also.items() if true)])

    def _hindrance(self, name: str) -> str:
        optimizer = self._optimizer
        if not self._is_trainable(name):
            return "it is not trainable"
        if optimizer is None:
            return ""
        stepped = self._began[0] is not optimizer or self._iterations() > self._began[1]
        hindrances = {
            "the optimizer made no step": not stepped,
            "the optimizer was built without it, compile again": not self._is_held(name),
            "its learning rate is 0": _rate(optimizer) == 0,
        }
        return next((hindrance for hindrance, true in hindrances.items() if true), "")

    def _is_trainable(self, name: str) -> bool:
        return id(self._found[name].variable) in self._trainable

    def _is_held(self, name: str) -> bool:
        optimizer, variable = self._optimizer, self._found[name].variable
        return optimizer is not None and holds(optimizer, variable)

    def observed(self, lines: list[TensorChange]) -> Observed:
        """Call the model with the batch, in training mode, and return the observations."""
        unchecked, others = [], []
        if self._classes is not None:
            width = output_width(self._model, self._batch)
            if width is None:
                unchecked.append("the output's width: give a batch")
            elif width != self._classes:
                others.append(f"the output has width {width} although there are {self._classes} classes")
                others += in_name_only(self._model)
        return Observed(self._paid(lines), self._random(), others=tuple(others), unchecked=tuple(unchecked))

    def _paid(self, lines: list[TensorChange]) -> dict[str, str]:
        optimizer, found = self._optimizer, {}
        rate = "" if optimizer is None or _rate(optimizer) else ", at learning rate 0"
        for line in lines:
            if line.kind == "parameter":
                if self._is_trainable(line.name):
                    found[line.name] = f"it is in model.trainable_variables{rate}"
                elif line.moved and self._is_held(line.name):
                    found[line.name] = "the step was compiled while it was trainable"
        return found

    def _random(self) -> tuple[str, ...] | None:
        layers = frozen_layers(self._model, self.frozen, self._whole)
        if not layers:
            return ()
        now = self._marked_seeds()
        drew = [
            layers[place.layer]
            for place in self._seed_places()
            if place.layer in layers and now[place.name] != self._seeds.get(place.name)
        ]
        if self._batch is not None:
            drew += random_layers(lambda: self._model(self._batch, training=True), self._model, layers)
        elif keras.backend.backend() == "torch":
            return None  # torch uses its own generator and ignores the seeds
        return tuple(dict.fromkeys(drew))


def _rule(optimizer: Any) -> Optimizer | None:
    if isinstance(optimizer, keras.optimizers.SGD):
        return Optimizer(name="sgd")
    if isinstance(optimizer, keras.optimizers.Adam):  # AdamW is a subclass
        name: Any = "adamw" if isinstance(optimizer, keras.optimizers.AdamW) else "adam"
        return Optimizer(name=name, eps=float(optimizer.epsilon))
    return None


def _rate(optimizer: Any) -> float:
    # The current learning rate. For several optimizers in one it is unknown and counts as 1.
    if hasattr(optimizer, "optimizers"):
        return 1.0
    rate = optimizer.learning_rate
    return float(view(rate) if isinstance(rate, keras.Variable) else array_of(keras.ops.convert_to_tensor(rate)))
