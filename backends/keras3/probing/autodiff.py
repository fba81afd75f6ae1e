"""One backward pass and one optimizer step outside `fit`, as in each engine's own trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3.tensors import array_of

Gradients = Callable[[NDArray[Any], NDArray[np.int64]], tuple[float, list[NDArray[Any] | None]]]
Update = Callable[[Sequence[NDArray[Any]]], None]


def gradients_of(model: Any) -> Gradients:
    """Return a function from images and labels to the loss of the compiled model in training mode and its gradients.

    Gradients are in the order of `model.trainable_variables`, None for a variable without influence on the loss. A call
    updates batch statistics. The model must stay frozen and compiled as it is now.
    """
    return (_jax_gradients if keras.backend.backend() == "jax" else _eager_gradients)(model)


def update_of(optimizer: Any, variables: Sequence[Any]) -> Update:
    """Return a function of gradients, in the order of `variables`, that makes one step of their optimizer."""
    return (_jax_update if keras.backend.backend() == "jax" else _eager_update)(optimizer, variables)


def _eager_gradients(model: Any) -> Gradients:
    on_torch = keras.backend.backend() == "torch"
    tape: Any = nullcontext if on_torch else import_module("tensorflow").GradientTape

    def gradients(images: NDArray[Any], labels: NDArray[np.int64]) -> tuple[float, list[NDArray[Any] | None]]:
        x, y = ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
        with tape() as recorded:
            loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)
        values = [variable.value for variable in model.trainable_variables]
        if on_torch:
            found = import_module("torch").autograd.grad(loss, values, allow_unused=True)
            loss = loss.detach()
        else:
            found = recorded.gradient(loss, values)
        return float(loss), [_given(one) for one in found]

    return gradients


def _jax_gradients(model: Any) -> Gradients:
    jax = import_module("jax")
    loss_and_updates = partial(model.compute_loss_and_updates, sample_weight=None, training=True)
    compiled = jax.jit(jax.value_and_grad(loss_and_updates, has_aux=True))

    def gradients(images: NDArray[Any], labels: NDArray[np.int64]) -> tuple[float, list[NDArray[Any] | None]]:
        state = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        ]
        slots = [variable.value for variable in model.optimizer.variables]
        (loss, (_, _, statistics, _)), found = compiled(*state, x=images, y=labels, optimizer_variables=slots)
        for variable, value in zip(model.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        return float(loss), [_given(one) for one in found]

    return gradients


def _given(gradient: Any) -> NDArray[Any] | None:
    return None if gradient is None else array_of(gradient)


def _eager_update(optimizer: Any, variables: Sequence[Any]) -> Update:
    def update(gradients: Sequence[NDArray[Any]]) -> None:
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)

    if keras.backend.backend() != "torch":
        return update
    without_graph: Update = import_module("torch").no_grad()(update)
    return without_graph


def _jax_update(optimizer: Any, variables: Sequence[Any]) -> Update:
    compiled = import_module("jax").jit(optimizer.stateless_apply)

    def update(gradients: Sequence[NDArray[Any]]) -> None:
        slots = [variable.value for variable in optimizer.variables]
        values, moved = compiled(slots, list(gradients), [variable.value for variable in variables])
        for variable, value in zip((*variables, *optimizer.variables), (*values, *moved), strict=True):
            variable.assign(value)

    return update
