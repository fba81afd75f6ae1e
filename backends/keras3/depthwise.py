"""A depthwise convolution as a sum over the positions of its kernel, with slices and products.

It replaces Keras' layer only for float64 on JAX and a CPU (`needed`). There XLA expands the kernel to a full one, and a
gradient of EfficientNet-B0 at 64 px takes 50 s instead of half a second. Only certificates compute in float64, so timed
runs never use this layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from backends.keras3.engine import Engine


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """The sum over (i, j) of the image shifted by (i, j), times one number per channel."""

    def call(self, inputs: Any) -> Any:
        """Convolve [n, h, w, c] or [n, c, h, w]. Raise NotImplementedError for a dilation or depth multiplier."""
        if self.dilation_rate != (1, 1) or self.depth_multiplier != 1:
            raise NotImplementedError(f"{self.name}: dilations and depth multipliers are not supported")
        channels = (1, 1, 1, -1) if self.data_format == "channels_last" else (1, -1, 1, 1)
        outputs = sum(moved * ops.reshape(self.kernel[place], channels) for place, moved in self._moved(inputs))
        if self.use_bias:
            outputs = outputs + ops.reshape(self.bias, channels)
        return outputs if self.activation is None else self.activation(outputs)

    def _moved(self, inputs: Any) -> Iterator[tuple[tuple[int, int], Any]]:
        # Yields each position (i, j) of the kernel, and the pixels of the padded image to multiply with it.
        first = 1 if self.data_format == "channels_last" else 2
        padding, taken = [(0, 0)] * 4, []
        for axis, (size, stride) in enumerate(zip(self.kernel_size, self.strides, strict=True), start=first):
            length = inputs.shape[axis]
            total = max((-(-length // stride) - 1) * stride + size - length, 0) if self.padding == "same" else 0
            padding[axis] = (total // 2, total - total // 2)
            taken.append([slice(i, length + total - size + i + 1, stride) for i in range(size)])
        padded = ops.pad(inputs, padding)
        for i, rows in enumerate(taken[0]):
            for j, columns in enumerate(taken[1]):
                yield (i, j), padded[(*(slice(None),) * first, rows, columns)]


def needed(engine: Engine, *, wide: bool) -> bool:
    """Return whether XLA would expand the kernel."""
    return wide and engine.name == "jax" and engine.device.kind == "cpu"
