"""The real number of outputs of a network, independent of the attributes of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from backends.keras3.tensors import layers_of


def output_width(model: Any, batch: Any) -> int | None:
    """Return the width of the first output, from a batch in inference mode or from a functional model's output."""
    if batch is not None:
        output = model(batch, training=False)
    elif isinstance(model, keras.Sequential) or hasattr(model, "outputs"):
        output = model.outputs
    else:
        return None
    first = keras.tree.flatten(output)[0]
    return int(first.shape[-1])


_SIZES = ((keras.layers.Dense, "units"), (keras.layers.Conv2D, "filters"))


def in_name_only(model: Any) -> Iterator[str]:
    """Yield a sentence for each layer whose size differs from its kernel: `head.units = 10` does not resize it."""
    for name, layer in layers_of(model).items():
        for kind, size in _SIZES:
            if isinstance(layer, kind) and layer.built and getattr(layer, size) != layer.kernel.shape[-1]:
                width = layer.kernel.shape[-1]
                yield f"{name} was replaced in name only: {size} is {getattr(layer, size)}, its kernel has {width}"
