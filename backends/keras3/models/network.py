"""The network that a builder of this backend returns."""

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
        """Return the block of each layer; a layer without variables belongs to the block of the layer before it."""
        of_layer = {row.variable.rpartition("/")[0]: row.block for row in self.table}
        blocks: dict[Any, int] = {}
        block = 0
        for layer in self.backbone.layers:
            block = of_layer.get(layer.name, block)
            blocks[layer] = block
        return blocks

    def output_of(self, blocks: int) -> Any:
        """Return the symbolic output of the first `blocks` blocks: the last tensor that all later layers depend on."""
        of_layer = {row.variable.rpartition("/")[0]: row.block for row in self.table}
        first = {name for name, block in of_layer.items() if block < blocks}
        for layer in reversed(self.backbone.layers):
            before, after = _before(layer.output), _before(self.backbone.output, layer)
            if first <= before and not first & after and not (of_layer.keys() - first) & before:
                return layer.output
        raise ValueError(f"{self.backbone.name} cannot be divided after block {blocks}")


def _before(tensor: Any, end: Any = None) -> set[str]:
    """Return the names of the layers that a symbolic tensor is computed by, back to the layer `end`, without it."""
    found: set[str] = set()
    waiting = [tensor]
    while waiting:
        operation, node, _ = waiting.pop()._keras_history
        if operation is not end and operation.name not in found:
            found.add(operation.name)
            waiting.extend(operation._inbound_nodes[node].input_tensors)
    return found


def image_shape(size: int) -> tuple[int, int, int]:
    """Return the shape of one image of `size` pixels in Keras' configured layout."""
    import keras

    return (3, size, size) if keras.config.image_data_format() == "channels_first" else (size, size, 3)


@contextmanager
def undrawn() -> Iterator[None]:
    """Initialise kernels with zeros inside the block, for networks whose tensors are all loaded afterwards.

    JAX compiles the random initialiser for each shape, which took nine tenths of the time to build a network.
    """
    import keras

    def zeros(_: Any, shape: tuple[int, ...], dtype: str | None = None, **__: Any) -> NDArray[Any]:
        return np.zeros(shape, keras.backend.standardize_dtype(dtype))

    drawing = keras.initializers.VarianceScaling.__call__  # base class of the Glorot and He initialisers
    keras.initializers.VarianceScaling.__call__ = zeros
    try:
        yield
    finally:
        keras.initializers.VarianceScaling.__call__ = drawing
