"""The network of layers, its freezing, its only model, the heads and the loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backends.reference.layers import (
    Array,
    BatchNorm,
    Conv,
    GlobalAveragePool,
    Linear,
    Operation,
    ReferenceDropout,
    ReLU,
    Variable,
)
from harness.contract import BUFFERS
from harness.running.initial_weights import HEAD_LAYERS, MLP_DROPOUT, MLP_WIDTHS
from harness.spec import Frozen, Stage

TINY_WIDTHS = (8, 16, 32)
Tape = list[tuple[Operation, Any]]


@dataclass(eq=False)
class ReferenceNetwork:
    """The layers in order, backbone then head. A stage freezes the first layers; these have no backward pass."""

    layers: list[Operation]
    trained_from: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """Work so far, by the fields of `harness.running.observer.Work`."""

    @property
    def variables(self) -> list[Variable]:
        return [variable for layer in self.layers for variable in layer.variables]

    def declare(self, stage: Stage, seed: int) -> list[Variable]:
        """Set freezing, batch-norm mode and dropout seed of a stage; return the trainable parameters."""
        parameters = [v for v in self.variables if v.role not in BUFFERS]
        trainable = [v for v in parameters if not stage.is_frozen(v.part, v.block)]
        self.trained_from = next(i for i, layer in enumerate(self.layers) if trainable[0] in layer.variables)
        for layer in self.layers:
            if isinstance(layer, BatchNorm):
                layer.batch_statistics = stage.uses_batch_statistics(layer.mean.part, layer.mean.block)
                layer.momentum = stage.bn_momentum
            elif isinstance(layer, ReferenceDropout):
                layer.seed(seed)
        return trainable

    def drop_nothing(self) -> None:
        """Set the rate of every stochastic layer to 0."""
        for layer in self.layers:
            if isinstance(layer, ReferenceDropout):
                layer.rate = 0.0

    def entrance(self, part: Frozen) -> int:
        """Return the position of the first layer after a part: the first layer with tensors outside it."""
        for position, layer in enumerate(self.layers):
            block = layer.variables[0].block if layer.variables else None
            if block is not None and (block < 0 or (part != "backbone" and block >= int(part))):
                return position
        raise ValueError(f"no layer comes after {part}")

    def features(self, x: Array, part: Frozen) -> Array:
        """Return the outputs of a part, in inference mode."""
        self.done["inferences"] += 1
        for layer in self.layers[: self.entrance(part)]:
            x, _ = layer.forward(x, training=False)
        return x

    def forward(self, x: Array, training: bool = False, after: Frozen = "none") -> tuple[Array, Tape]:
        """Return logits [n, classes] and, in training, the values for `backward`, without the frozen layers.

        `x` are images, or the features of the part `after`.
        """
        tape: Tape = []
        self.done.update({"forwards": 1, "samples": len(x)} if training else {"inferences": 1})
        first = 0 if after == "none" else self.entrance(after)
        for position, layer in enumerate(self.layers[first:], first):
            x, saved = layer.forward(x, training)
            if training and position >= self.trained_from:
                tape.append((layer, saved))
        return x, tape

    def backward(self, dy: Array, tape: Tape) -> None:
        """Compute the gradients of the trainable parameters from that of the logits."""
        self.done["backwards"] += 1
        for position, (layer, saved) in reversed(list(enumerate(tape))):
            dy = layer.backward(dy, saved, to_input=position > 0)


def tiny_cnn(dtype: DTypeLike) -> tuple[list[Operation], int]:
    """Build the backbone of `tiny-cnn` and return it with its width: three blocks of Conv, BatchNorm, ReLU; a mean."""
    backbone: list[Operation] = []
    for block, (inputs, outputs) in enumerate(zip((3, *TINY_WIDTHS), TINY_WIDTHS, strict=False)):
        name = f"features.{block}"
        conv, norm = Conv(f"{name}.0", inputs, outputs, dtype), BatchNorm(f"{name}.1", outputs, dtype)
        for variable in (*conv.variables, *norm.variables):
            variable.block = block
        backbone += [conv, norm, ReLU(f"{name}.2")]
    return [*backbone, GlobalAveragePool("pool")], TINY_WIDTHS[-1]


def new_head(kind: Literal["linear", "mlp"], features: int, classes: int, dtype: DTypeLike) -> list[Operation]:
    """Build the head of `initial_weights`: one linear layer, or three with two ReLU and one dropout between them."""
    if kind == "linear":
        return [Linear(HEAD_LAYERS[kind][0], features, classes, dtype)]
    first, second, last = HEAD_LAYERS[kind]
    wide, narrow = MLP_WIDTHS
    return [
        Linear(first, features, wide, dtype),
        ReLU(f"{first}.relu"),
        ReferenceDropout(f"{first}.dropout", MLP_DROPOUT),
        Linear(second, wide, narrow, dtype),
        ReLU(f"{second}.relu"),
        Linear(last, narrow, classes, dtype),
    ]


def cross_entropy(logits: Array, labels: NDArray[np.int64], smoothing: float) -> tuple[float, Array]:
    """Return the mean loss of a batch, with torch's label smoothing, and its gradient for the logits."""
    n, classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = np.full_like(logits, smoothing / classes)
    target[np.arange(n), labels] += 1 - smoothing
    return float(-(target * log_probability).sum() / n), (np.exp(log_probability) - target) / n
