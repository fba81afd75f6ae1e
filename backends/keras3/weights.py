"""Keras' own files to canonical arrays and back: `.weights.h5`, `.keras`, and the older `.h5`.

Reading goes through HDF5 alone: no layer is built from the file, so nothing in it can run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.keras3 import heads, maps
from backends.keras3.archive import Stored, open_stored
from backends.keras3.models import CLASSIFIER_LAYER, OLDER_CLASSIFIER_LAYER, Network, undrawn
from harness.contract import Model
from harness.errors import Refused

IMAGE_SIZE = 224
"""Size for which a network is built that is only written; no tensor depends on it."""


def read(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Tensors by canonical name, and names in the file without a place in the model.

    Raises `Refused` if the file is unreadable or unsafe, has values that are not finite, or fits less than half of the
    backbone.
    """
    with undrawn():
        network: Network = model.build(IMAGE_SIZE)
    older = _classifier(model, OLDER_CLASSIFIER_LAYER)
    table = {row.variable: row for row in (*_with_classifier(network, model), *heads.ROWS, *older)}
    shapes = {
        row.variable: maps.canonical_shape(variable.shape, row.layout)
        for variable in network.backbone.weights
        for row in [table[variable.path]]
    }
    with open_stored(path, network.backbone) as stored:
        arrays, unmapped = _translate(stored, table, path)
    fitting = sum(arrays[table[v].name].shape == shape for v, shape in shapes.items() if table[v].name in arrays)
    if 2 * fitting < len(shapes):
        raise Refused(f"{path} is not {model.name}: {_difference(arrays, table, shapes)}; name its own --model")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise Refused(f"{path}: {name} has values that are not finite; fetch or save the file again")
    return arrays, unmapped


def _translate(
    stored: Mapping[str, Stored], table: Mapping[str, maps.Row], path: str
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    arrays: dict[str, NDArray[Any]] = {}
    unmapped = []
    for variable, dataset in stored.items():
        row = table.get(variable)
        if row is None or len(dataset.shape) != maps.AXES[row.layout]:
            unmapped.append(variable)
        else:
            arrays[row.name] = maps.to_canonical(dataset.read(path), row.layout)
    order = {row.name: place for place, row in enumerate(table.values())}
    return {name: arrays[name] for name in sorted(arrays, key=order.__getitem__)}, tuple(unmapped)


def _difference(
    arrays: Mapping[str, NDArray[Any]], table: Mapping[str, maps.Row], shapes: Mapping[str, tuple[int, ...]]
) -> str:
    for variable, shape in shapes.items():
        name = table[variable].name
        if name not in arrays:
            return f"it has no {name} ({variable})"
        if arrays[name].shape != shape:
            return f"its {name} is {list(arrays[name].shape)} instead of {list(shape)}"
    return "it has another structure"


def write(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write the backbone, and the source classifier or a new head if there is one, in the format of the file's name.

    Raises `Refused` for a tensor that is missing, has another shape, or no place in the model.
    """
    with undrawn():
        network: Network = model.build(IMAGE_SIZE)
        whole, table = _whole(network, model, arrays)
    _assign(whole, table, arrays)
    partial = Path(path).with_name(".partial-" + Path(path).name)
    if path.endswith(".weights.h5"):
        whole.save_weights(partial)
    else:
        whole.save(partial)
    partial.replace(path)


def _whole(network: Network, model: Model, arrays: Mapping[str, NDArray[Any]]) -> tuple[Any, tuple[maps.Row, ...]]:
    import keras

    backbone = network.backbone
    weight = arrays.get(f"{model.classifier}weight")
    if weight is not None:
        top = keras.layers.Dense(weight.shape[0], activation="softmax", name=CLASSIFIER_LAYER)
        return keras.Model(backbone.input, top(backbone.output), name=backbone.name), _with_classifier(network, model)
    for kind, last in (("linear", "head.weight"), ("mlp", "head.2.weight")):
        if last in arrays:
            head = heads.build(kind, backbone.output, arrays[last].shape[0])  # type: ignore[arg-type]
            return keras.Model(backbone.input, head.logits, name=backbone.name), (*network.table, *head.table)
    return backbone, network.table


def _assign(whole: Any, table: tuple[maps.Row, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
    rows = {row.variable: row for row in table}
    for name in arrays.keys() - {row.name for row in table}:
        raise Refused(f"{name} has no place in {whole.name}; export it from the model it belongs to")
    for variable in whole.weights:
        row = rows[variable.path]
        if row.name not in arrays:
            raise Refused(f"{row.name}, which goes to {row.variable}, is missing; export the model it belongs to")
        try:
            variable.assign(maps.fitted(arrays[row.name], row, variable.shape))
        except ValueError as error:
            raise Refused(f"{error}; export the model it belongs to") from error


def _with_classifier(network: Network, model: Model) -> tuple[maps.Row, ...]:
    return (*network.table, *_classifier(model, CLASSIFIER_LAYER))


def _classifier(model: Model, layer: str) -> tuple[maps.Row, ...]:
    return maps.rows(layer, model.classifier.rstrip("."), "dense", -1)
