"""Given gradients for an optimizer, one per step: the same in every backend, computed from the shapes alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.spec import Optimizer

STEPS = 20
RULES: Mapping[str, Optimizer] = {
    "sgd": Optimizer(name="sgd", momentum=0.0),
    "sgd with momentum": Optimizer(name="sgd"),
    "adam": Optimizer(name="adam"),
    "adamw": Optimizer(name="adamw"),
}
"""The update rules that are compared."""


def gradients(shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, NDArray[np.float64]]]:
    """Return a gradient for each tensor and step, over six orders of magnitude and zero at the end (V18, V19).

    The smallest are as small as Adam's epsilon. With zero gradients only weight decay and momentum move a tensor.
    """
    draw = np.random.default_rng(0)
    scales = np.concatenate([np.logspace(0, -6, STEPS - 5), np.zeros(5)])
    return [{name: draw.standard_normal(shape) * scale for name, shape in shapes.items()} for scale in scales]


def factors() -> list[float]:
    """Return the factors on the learning rate, which drops halfway (V20)."""
    return [1.0 if step < STEPS // 2 else 0.1 for step in range(STEPS)]
