"""What a network's layers hold and compute."""

from __future__ import annotations

import math
from typing import Any

import keras

from harness.contract import Layer


def layers(model: Any) -> list[Layer]:
    """Layers with parameters or multiplications, in the order of computation, for the model's own image size."""
    listed = []
    for layer in model.layers:
        shape = tuple(int(side) for side in layer.output.shape[1:])
        macs = _macs(layer, shape)
        if layer.count_params() or macs:
            listed.append(Layer(layer.name, type(layer).__name__, shape, int(layer.count_params()), macs))
    return listed


def _macs(layer: Any, output: tuple[int, ...]) -> int:
    """Multiply-accumulates of one image: kernel elements times the places the kernel is applied to."""
    if isinstance(layer, keras.layers.Dense):
        return int(math.prod(layer.kernel.shape))
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        rows, columns = output[1:] if layer.data_format == "channels_first" else output[:2]
        return int(math.prod(layer.kernel.shape)) * rows * columns
    return 0
