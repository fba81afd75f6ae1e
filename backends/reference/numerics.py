"""The precision of the network's layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backends.reference.layers import Conv, Linear
from harness.running.numerics import Numerics, examine

SIDE = 128
"""A small size, because NumPy is slow and its rounding does not depend on the size."""


def numerics(dtype: DTypeLike) -> Numerics:
    """Measure the precision of `Linear` and `Conv` in a floating-point type."""

    def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[Any]:
        layer = Linear("probe", right.shape[0], right.shape[1], dtype)
        layer.weight.array[...] = right.T
        return layer.forward(left.astype(dtype), training=False)[0]

    def convolution(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[Any]:
        layer = Conv("probe", kernel.shape[1], kernel.shape[0], dtype)
        layer.weight.array[...] = kernel
        found, _ = layer.forward(np.moveaxis(images, 1, -1).astype(dtype), training=False)
        return np.moveaxis(found, -1, 1)[:, :, 1:, 1:]

    def multiply(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[Any]:
        return one * other

    # The layer pads by 1: without the border, its patches begin at 1, 3, 5, …
    return examine(product, convolution, multiply, side=SIDE, places=slice(1, None, Conv.STRIDE))
