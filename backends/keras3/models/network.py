"""What a builder of this backend returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.keras3.models.maps import MappedVariable


class KerasNetwork(NamedTuple):
    """A functional keras.Model from images to pooled features [n, width], and its weight map."""

    backbone: Any
    table: tuple[MappedVariable, ...]

    def blocks(self) -> dict[Any, int]:
        """The block of each layer, as the map says; one without variables is in that of the layer before it."""
        of_layer = {row.variable.rpartition("/")[0]: row.block for row in self.table}
        blocks: dict[Any, int] = {}
        block = 0
        for layer in self.backbone.layers:
            block = of_layer.get(layer.name, block)
            blocks[layer] = block
        return blocks


def image_shape(size: int) -> tuple[int, int, int]:
    """Shape of one image of `size` pixels in the layout that Keras is set to."""
    import keras

    return (3, size, size) if keras.config.image_data_format() == "channels_first" else (size, size, 3)


@contextmanager
def undrawn() -> Iterator[None]:
    """Kernels that are built meanwhile are zeros: for networks of which every tensor is loaded afterwards.

    JAX compiles the drawing for each shape, which took nine tenths of the time of building a network.
    """
    import keras

    def zeros(_: Any, shape: tuple[int, ...], dtype: str | None = None, **__: Any) -> NDArray[Any]:
        return np.zeros(shape, keras.backend.standardize_dtype(dtype))

    drawing = keras.initializers.VarianceScaling.__call__  # what Glorot's and He's are, too
    keras.initializers.VarianceScaling.__call__ = zeros
    try:
        yield
    finally:
        keras.initializers.VarianceScaling.__call__ = drawing
