"""Detection of layers whose output for one batch is random (V13)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import keras
import numpy as np

from backends.keras3.engine import to_numpy
from backends.keras3.tensors import array_of, places
from harness.auditing.audit import DROPPED_OF
from harness.auditing.auditor import innermost

_SAMPLES = 8


def dropping_layers(model: Any, frozen: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of a functional model's frozen layers whose training output for ones is random.

    Each layer with a seed is called separately: for an uncompiled pass of the whole network, JAX would compile each
    operation.
    """
    drawing = {layer: layer.name for layer in frozen if layer._seed_generators}

    def run() -> None:
        for layer in drawing:
            shape = (_SAMPLES, *layer.input.shape[1:])
            if isinstance(
                layer, keras.layers.Dropout
            ):  # it takes any size; a small one is compiled once for many layers
                shape = (DROPPED_OF, *(min(side, 4) for side in layer.input.shape[1:]))
            layer(keras.ops.ones(shape, dtype=layer.compute_dtype), training=True)

    return random_layers(run, model, drawing) if drawing else ()


def random_layers(run: Callable[[], Any], model: Any, frozen: Mapping[Any, str]) -> tuple[str, ...]:
    """Return the names of the innermost frozen layers that give two different outputs when called twice in `run`.

    `run` must not be compiled. Seeds, statistics and random generators are restored afterwards.
    """
    differing: list[str] = []
    repeating = False

    def twice(layer: Any) -> Callable[..., Any]:
        call = layer.call

        def call_twice(*args: Any, **kwargs: Any) -> Any:
            nonlocal repeating
            first = call(*args, **kwargs)
            if not repeating:
                repeating = True
                try:
                    again = call(*args, **kwargs)
                finally:
                    repeating = False
                if not _same(first, again):
                    differing.append(frozen[layer])
            return first

        return call_twice

    try:
        for layer in frozen:
            object.__setattr__(layer, "call", twice(layer))  # bypasses Keras' tracking of attributes
        with _undisturbed(model):
            run()
    finally:
        for layer in frozen:
            layer.__dict__.pop("call", None)
    return innermost(differing, "/")


def _same(one: Any, other: Any) -> bool:
    ours, theirs = keras.tree.flatten(one), keras.tree.flatten(other)
    return len(ours) == len(theirs) and all(
        np.array_equal(array_of(a), array_of(b), equal_nan=True) for a, b in zip(ours, theirs, strict=True)
    )


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    before = [(place.variable, to_numpy(place.variable)) for place in places(model) if place.kind != "parameter"]
    torch = import_module("torch") if keras.backend.backend() == "torch" else None
    with torch.random.fork_rng(devices=[]) if torch else nullcontext(), torch.no_grad() if torch else nullcontext():
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)
