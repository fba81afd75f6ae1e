"""torch's update rules for Keras: coupled decay, no learning rate in the velocity, eps outside the root (V18-V22)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3.engine import to_numpy
from backends.keras3.parallel import devices
from harness.spec import Optimizer


class Factors(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule from an array of learning rates, or of factors on them, with one entry per optimizer step."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = np.asarray(values, dtype=np.float64)
        self._dtype = keras.config.floatx()

    def __call__(self, step: Any) -> Any:
        """Return the entry of this step; steps after the end get the last entry."""
        table = ops.convert_to_tensor(self.values, dtype=self._dtype)
        return ops.take(table, ops.minimum(step, len(self.values) - 1))

    def get_config(self) -> dict[str, Any]:
        """Return the configuration for Keras."""
        return {"values": self.values.tolist()}


class _PartRates(keras.optimizers.Optimizer):  # type: ignore[misc]
    """An update rule with a base rate per variable; the schedule's value is a factor on all rates.

    A rule defines `_slot_names`, `update_step` for one variable, and fused updates of all variables of one rate:
    `_update_with_foreach` by torch's `_foreach` operations, `_update_with_kernels` by TensorFlow's `ResourceApply`.
    """

    def __init__(self, factors: NDArray[np.float64], rates: Mapping[str, float], constants: Optimizer, decay: float):
        super().__init__(learning_rate=Factors(factors), name=constants.name)
        self.constants, self.decay, self._rate_of = constants, decay, dict(rates)
        self._slots: dict[str, list[Any]] = {}

    def build(self, variables: list[Any]) -> None:
        """Create the slots of each trainable variable."""
        if self.built:
            return
        super().build(variables)
        self._rates = [self._rate_of[variable.path] for variable in variables]
        for name in self._slot_names():
            self._slots[name] = self.add_optimizer_variables(variables, name)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        fused = {"torch": self._update_with_foreach, "tensorflow": self._update_with_kernels}
        update = fused.get(keras.backend.backend())
        if update is None:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        if shared := devices.several():
            grads = shared.summed(grads)
        # The engine's own fused operations update each group of equal rates. With Keras' operations instead, Adam would
        # be half of the graph that TensorFlow traces.
        order = [self._get_variable_index(variable) for variable in trainable_variables]
        for rate in dict.fromkeys(self._rates):
            at = [i for i, index in enumerate(order) if self._rates[index] == rate]
            slots = {name: [self._slots[name][order[i]].value for i in at] for name in self._slots}
            values = [trainable_variables[i].value for i in at]
            update([grads[i] for i in at], values, slots, learning_rate * rate)


class SGD(_PartRates):
    """torch.optim.SGD: g += decay * p; v = momentum * v + g; p -= rate * v."""

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.constants.momentum else ()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        rate = ops.cast(learning_rate, dtype) * self._rates[index]
        step = ops.cast(gradient, dtype)
        if self.decay:
            step = step + self.decay * variable
        if self.constants.momentum:
            velocity = self._slots["momentum"][index]
            step = self.constants.momentum * velocity + step
            self.assign(velocity, step)
        self.assign_sub(variable, rate * step)

    def _update_with_foreach(self, grads: Any, values: Any, slots: Mapping[str, Any], rate: Any) -> None:
        import torch

        with torch.no_grad():
            if self.decay:
                grads = torch._foreach_add(grads, values, alpha=self.decay)
            if self.constants.momentum:
                torch._foreach_mul_(slots["momentum"], self.constants.momentum)
                torch._foreach_add_(slots["momentum"], grads)
                grads = slots["momentum"]
            torch._foreach_sub_(values, torch._foreach_mul(grads, rate))

    def _update_with_kernels(self, grads: Any, values: Any, slots: Mapping[str, Any], rate: Any) -> None:
        from tensorflow import raw_ops

        dtype = values[0].dtype
        rate, momentum = ops.cast(rate, dtype), ops.convert_to_tensor(self.constants.momentum, dtype)
        for place, (gradient, variable) in enumerate(zip(grads, values, strict=True)):
            step = ops.cast(gradient, dtype)
            if self.decay:
                step = step + self.decay * variable
            if self.constants.momentum:
                raw_ops.ResourceApplyMomentum(
                    var=variable.handle, accum=slots["momentum"][place].handle, lr=rate, grad=step, momentum=momentum
                )
            else:
                raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=step)


class Adam(_PartRates):
    """torch.optim.Adam, or AdamW by the constants' name: p -= rate / c1 * m / (sqrt(v) / sqrt(c2) + eps)."""

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum", "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        rate = ops.cast(learning_rate, dtype) * self._rates[index]
        first, second = self.constants.betas
        step = ops.cast(gradient, dtype)
        start: Any = variable
        if self.decay and self.constants.name == "adamw":
            start = variable * (1.0 - rate * self.decay)
        elif self.decay:
            step = step + self.decay * variable
        mean, square = (self._slots[name][index] for name in ("momentum", "velocity"))
        new_mean = mean + (step - mean) * (1.0 - first)
        new_square = square * second + ops.square(step) * (1.0 - second)
        self.assign(mean, new_mean)
        self.assign(square, new_square)
        size, root = self._corrections(dtype)
        moved = rate / size * new_mean / (ops.sqrt(new_square) / root + self.constants.eps)
        self.assign(variable, start - moved)

    def _corrections(self, dtype: Any) -> tuple[Any, Any]:
        # In float32, 1 - beta ** t loses digits in the first steps; expm1 does not.
        step = ops.cast(self.iterations + 1, dtype)
        first, second = (-ops.expm1(step * float(np.log(beta))) for beta in self.constants.betas)
        return first, ops.sqrt(second)

    def _update_with_foreach(self, grads: Any, values: Any, slots: Mapping[str, Any], rate: Any) -> None:
        import torch

        first, second = self.constants.betas
        with torch.no_grad():
            if self.decay and self.constants.name == "adamw":
                torch._foreach_mul_(values, 1.0 - rate * self.decay)
            elif self.decay:
                grads = torch._foreach_add(grads, values, alpha=self.decay)
            torch._foreach_lerp_(slots["momentum"], list(grads), 1.0 - first)
            torch._foreach_mul_(slots["velocity"], second)
            torch._foreach_addcmul_(slots["velocity"], grads, grads, 1.0 - second)
            size, root = self._corrections(values[0].dtype)
            scale = torch._foreach_sqrt(slots["velocity"])
            torch._foreach_div_(scale, root)
            torch._foreach_add_(scale, self.constants.eps)
            moved = torch._foreach_div(slots["momentum"], scale)
            torch._foreach_mul_(moved, rate / size)
            torch._foreach_sub_(values, moved)

    def _update_with_kernels(self, grads: Any, values: Any, slots: Mapping[str, Any], rate: Any) -> None:
        from tensorflow import raw_ops

        dtype = values[0].dtype
        rate = ops.cast(rate, dtype)
        size, root = self._corrections(dtype)
        zero, first, second = (ops.convert_to_tensor(value, dtype) for value in (0.0, *self.constants.betas))
        # The kernel's rule is p -= lr * m / (sqrt(v) + epsilon): torch's fraction is expanded by `root`.
        lr, epsilon = rate * root / size, self.constants.eps * root
        kept = 1.0 - rate * self.decay
        for place, (gradient, variable) in enumerate(zip(grads, values, strict=True)):
            step = ops.cast(gradient, dtype)
            if self.decay and self.constants.name == "adamw":
                variable.assign(variable * kept)
            elif self.decay:
                step = step + self.decay * variable
            raw_ops.ResourceApplyAdam(
                var=variable.handle, m=slots["momentum"][place].handle, v=slots["velocity"][place].handle,
                beta1_power=zero, beta2_power=zero, lr=lr, beta1=first, beta2=second, epsilon=epsilon, grad=step,
            )  # fmt: skip


OWN = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
"""Keras' own rules by the names of our rules."""


def matched(
    constants: Optimizer, decay: float, factors: NDArray[np.float64], rates: Mapping[str, float]
) -> keras.optimizers.Optimizer:
    """Return torch's rule with a base rate per variable path."""
    return (SGD if constants.name == "sgd" else Adam)(factors, rates, constants, decay)


def idiomatic(
    constants: Optimizer, decay: float, factors: NDArray[np.float64], rates: Mapping[str, float]
) -> keras.optimizers.Optimizer:
    """Return Keras' own rule with its defaults; for different rates, a MultiOptimizer of one optimizer per rate."""
    made = {rate: _own(constants, decay, factors * rate) for rate in dict.fromkeys(rates.values())}
    if len(made) == 1:
        return next(iter(made.values()))
    return keras.optimizers.MultiOptimizer(lambda variable: made[rates[variable.path]])


def latest_rates(optimizer: Any) -> dict[str, float]:
    """Return the learning rate of each variable in the latest step, by path; empty before the first step."""
    step, found = int(to_numpy(optimizer.iterations)) - 1, {}
    for one in getattr(optimizer, "optimizers", [optimizer]) if step >= 0 else ():
        variables, factor = one._trainable_variables, float(one._learning_rate(ops.convert_to_tensor(step)))
        bases = one._rates if isinstance(one, _PartRates) else [1.0] * len(variables)
        found.update({v.path: factor * base for v, base in zip(variables, bases, strict=True)})
    return found


def _own(constants: Optimizer, decay: float, rate: NDArray[np.float64]) -> keras.optimizers.Optimizer:
    facts: dict[str, Any] = {"learning_rate": Factors(rate), "weight_decay": decay or None}
    if constants.name == "sgd":
        facts["momentum"] = constants.momentum
    else:
        facts["beta_1"], facts["beta_2"] = constants.betas
    if constants.name == "adamw":
        facts["weight_decay"] = decay
    return OWN[constants.name](**facts)
