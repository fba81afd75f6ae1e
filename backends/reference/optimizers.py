"""Update rules with torch's semantics: coupled decay in SGD and Adam, decoupled in AdamW, epsilon outside the root."""

from __future__ import annotations

import numpy as np

from backends.reference.layers import Array, Variable
from harness.spec import Part, Stage

SLOTS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}


class Updates:
    """The optimizer of one stage. `slots` holds the state of `variables` by parameter and slot name.

    `rates` are the learning rates of the latest step, by part.
    """

    def __init__(self, stage: Stage, variables: list[Variable]) -> None:
        self.stage, self.variables, self.steps = stage, variables, 0
        self.rates: dict[Part, float] = {}
        names = SLOTS[stage.optimizer.name]
        self.slots = {v.name: {slot: np.zeros_like(v.array) for slot in names} for v in variables}

    def step(self, factor: float) -> None:
        """Update every variable; `factor` is the schedule's factor on the learning rates."""
        self.steps += 1
        apply = self._sgd if self.stage.optimizer.name == "sgd" else self._adam
        for variable in self.variables:
            if variable.gradient is None:
                raise RuntimeError(f"{variable.name} is trainable, but no backward pass reached it")
            rate = self.stage.learning_rate(variable.part) * factor
            self.rates[variable.part] = rate
            apply(variable.array, variable.gradient, self.slots[variable.name], rate)

    def _sgd(self, weight: Array, gradient: Array, slots: dict[str, Array], rate: float) -> None:
        momentum = slots["momentum_buffer"]
        momentum *= self.stage.optimizer.momentum
        momentum += gradient + self.stage.weight_decay * weight
        weight -= rate * momentum

    def _adam(self, weight: Array, gradient: Array, slots: dict[str, Array], rate: float) -> None:
        rule, decay = self.stage.optimizer, self.stage.weight_decay
        if rule.name == "adamw":
            weight *= 1 - rate * decay
        else:
            gradient = gradient + decay * weight
        mean, square = slots["exp_avg"], slots["exp_avg_sq"]
        beta_mean, beta_square = rule.betas
        mean += (1 - beta_mean) * (gradient - mean)
        square += (1 - beta_square) * (gradient * gradient - square)
        root = np.sqrt(square / (1 - beta_square**self.steps)) + rule.eps
        weight -= rate / (1 - beta_mean**self.steps) * mean / root
