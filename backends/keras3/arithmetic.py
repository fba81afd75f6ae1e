"""The layers of a network: outputs, parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from backends.keras3.models.maps import MappedVariable
from harness.contract import BUFFERS, Layer


def layers(model: Any, table: Sequence[MappedVariable], *, channels_last: bool) -> list[Layer]:
    """Return the layers with tensors, named by their tensors' prefix, in the order of the map.

    Outputs are (c, h, w) or (n,), for the model's own image size. A multiply-accumulate counts once; only those of
    convolutions and dense layers are counted.
    """
    names = {row.variable.rpartition("/")[0]: row.name.rpartition(".")[0] for row in table}
    held = _parameters(model, table)
    listed = []
    for path, name in names.items():
        layer = model.get_layer(path)
        shape = tuple(int(side) for side in layer.output.shape[1:])
        if channels_last and len(shape) == 3:
            shape = (shape[2], *shape[:2])
        listed.append(Layer(name, type(layer).__name__, shape, held[path], _macs(layer, shape)))
    return listed


def _parameters(model: Any, table: Sequence[MappedVariable]) -> Mapping[str, int]:
    sizes = {variable.path: math.prod(variable.shape) for variable in model.weights}
    held: Counter[str] = Counter()
    for row in table:
        if row.role not in BUFFERS:
            held[row.variable.rpartition("/")[0]] += sizes[row.variable]
    return held


def _macs(layer: Any, output: tuple[int, ...]) -> int:
    # Kernel elements times the number of positions of the kernel.
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        return int(math.prod(layer.kernel.shape)) * math.prod(output[1:])
    return int(math.prod(layer.kernel.shape)) if isinstance(layer, keras.layers.Dense) else 0
