"""Layers in plain NumPy, each with a forward pass and a hand-written backward pass.

Activations are [n, h, w, c], so the rows of a patch are contiguous; tensors have canonical names and OIHW layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from harness.contract import Role
from harness.spec import Part

Array = NDArray[Any]


@dataclass(eq=False)
class Variable:
    """A parameter or buffer. A backward pass sets the `gradient` of each trainable parameter, and of no other."""

    name: str
    array: Array
    role: Role
    part: Part = "backbone"
    block: int = -1
    gradient: Array | None = None


class Operation(Protocol):
    """One layer. `backward` takes the values that `forward` saved, sets gradients and returns that of its input."""

    name: str

    @property
    def variables(self) -> tuple[Variable, ...]: ...

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]: ...

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        """Without `to_input`, the input's gradient is not needed and may be left out."""


class Conv:
    """A 3x3 convolution, stride 2, zero padding of 1 as in torch, no bias: a matrix product of unfolded patches."""

    SQUARE, STRIDE = (3, 3), 2

    def __init__(self, name: str, inputs: int, outputs: int, dtype: DTypeLike) -> None:
        self.name = name
        self.weight = Variable(f"{name}.weight", np.zeros((outputs, inputs, *self.SQUARE), dtype), "weight")
        self.variables = (self.weight,)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = sliding_window_view(padded, self.SQUARE, axis=(1, 2))[:, :: self.STRIDE, :: self.STRIDE]
        n, height, width = patches.shape[:3]
        columns = patches.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, -1)
        return (columns @ self._matrix()).reshape(n, height, width, -1), (columns, padded.shape)

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        columns, padded_shape = saved
        n, height, width, outputs = dy.shape
        flat = dy.reshape(-1, outputs)
        self.weight.gradient = (columns.T @ flat).reshape(*self.SQUARE, -1, outputs).transpose(3, 2, 0, 1)
        if not to_input:
            return dy
        patches = (flat @ self._matrix().T).reshape(n, height, width, *self.SQUARE, -1)
        dx = np.zeros(padded_shape, dy.dtype)
        for i, j in np.ndindex(self.SQUARE):
            rows = slice(i, i + self.STRIDE * height, self.STRIDE)
            columns = slice(j, j + self.STRIDE * width, self.STRIDE)
            dx[:, rows, columns] += patches[:, :, :, i, j]
        return dx[:, 1:-1, 1:-1]

    def _matrix(self) -> Array:
        return self.weight.array.transpose(2, 3, 1, 0).reshape(-1, len(self.weight.array))


class BatchNorm:
    """torch's BatchNorm2d: it normalises by the biased variance of the batch; the running variance is unbiased."""

    EPS = 1e-5

    def __init__(self, name: str, features: int, dtype: DTypeLike) -> None:
        self.name = name
        self.scale = Variable(f"{name}.weight", np.ones(features, dtype), "norm_scale")
        self.shift = Variable(f"{name}.bias", np.zeros(features, dtype), "norm_bias")
        self.mean = Variable(f"{name}.running_mean", np.zeros(features, dtype), "norm_mean")
        self.variance = Variable(f"{name}.running_var", np.ones(features, dtype), "norm_var")
        self.variables = (self.scale, self.shift, self.mean, self.variance)
        self.batch_statistics, self.momentum = True, 0.1

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        flat = x.reshape(-1, x.shape[-1])
        by_batch = training and self.batch_statistics
        if by_batch:
            mean = _sum_rows(flat) / len(flat)
            centred = flat - mean
            variance = _sum_rows(centred * centred) / len(flat)
            unbiased = variance * (len(flat) / (len(flat) - 1))
            self.mean.array += self.momentum * (mean - self.mean.array)
            self.variance.array += self.momentum * (unbiased - self.variance.array)
        else:
            centred, variance = flat - self.mean.array, self.variance.array
        inverse = 1 / np.sqrt(variance + self.EPS)
        normal = centred * inverse
        return (normal * self.scale.array + self.shift.array).reshape(x.shape), (normal, inverse, by_batch)

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        normal, inverse, by_batch = saved
        flat = dy.reshape(normal.shape)
        self.shift.gradient, self.scale.gradient = _sum_rows(flat), _sum_rows(flat * normal)
        if by_batch:
            flat = flat - (self.shift.gradient + normal * self.scale.gradient) / len(flat)
        return np.reshape(flat * (self.scale.array * inverse), dy.shape)


@dataclass(eq=False)
class ReLU:
    """The function max(x, 0), with a gradient of 0 at 0."""

    name: str
    variables: tuple[Variable, ...] = ()

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        return np.maximum(x, 0), x > 0

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        return np.asarray(dy * saved)


@dataclass(eq=False)
class GlobalAveragePool:
    """The mean over h and w, from [n, h, w, c] to [n, c]."""

    name: str
    variables: tuple[Variable, ...] = ()

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        return x.mean(axis=(1, 2)), x.shape

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        _, height, width, _ = saved
        return np.broadcast_to(dy[:, None, None, :] / (height * width), saved)


class ReferenceDropout:
    """Dropout: in training it sets a share of the units to 0 and scales the others; `seed` restarts its masks."""

    def __init__(self, name: str, rate: float) -> None:
        self.name, self.rate = name, rate
        self.variables: tuple[Variable, ...] = ()
        self.seed(0)

    def seed(self, seed: int) -> None:
        self._draw = np.random.Generator(np.random.Philox(key=seed))

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        if not training:
            return x, None
        mask = (self._draw.random(x.shape) >= self.rate).astype(x.dtype) / (1 - self.rate)
        return x * mask, mask

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        return np.asarray(dy * saved)


class Linear:
    """A linear layer of the head: x W' + b with W [outputs, inputs]."""

    def __init__(self, name: str, inputs: int, outputs: int, dtype: DTypeLike) -> None:
        self.name = name
        self.weight = Variable(f"{name}.weight", np.zeros((outputs, inputs), dtype), "weight", "head")
        self.bias = Variable(f"{name}.bias", np.zeros(outputs, dtype), "bias", "head")
        self.variables = (self.weight, self.bias)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        return x @ self.weight.array.T + self.bias.array, x

    def backward(self, dy: Array, saved: Any, to_input: bool) -> Array:
        self.weight.gradient, self.bias.gradient = dy.T @ saved, _sum_rows(dy)
        return dy @ self.weight.array if to_input else dy


def _sum_rows(matrix: Array) -> Array:
    # For a tall, narrow matrix, this product is several times faster than `sum(axis=0)`.
    return np.asarray(np.ones(len(matrix), matrix.dtype) @ matrix)
