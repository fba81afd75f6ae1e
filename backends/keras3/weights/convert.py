"""Conversion of Keras' own files to canonical arrays and back: `.weights.h5`, `.keras`, and the older `.h5`.

Files are read with HDF5 only: no layer is built from a file, so no code in it can run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.keras3.models import CLASSIFIER_LAYER, MODELS, OLDER_CLASSIFIER_LAYER, KerasNetwork, maps, undrawn
from backends.keras3.weights import heads
from backends.keras3.weights.archive import Stored, open_stored
from harness.contract import Model
from harness.data.checkpoint import refuse_not_finite
from harness.data.weight_files import refuse_part, some
from harness.errors import Refused
from harness.whole_files import written_whole

IMAGE_SIZE = 224
"""Image size for building a network that is only converted; no tensor depends on it."""


class _Translated(NamedTuple):
    """A scope of a file: tensors by canonical name with their layout, and the names without a place in the model."""

    title: str
    found: dict[str, tuple[Stored, maps.Layout]]
    unmapped: tuple[str, ...]

    def misfit(self, name: str, shape: tuple[int, ...]) -> str:
        """Describe how a found tensor differs from the model's; empty if it fits."""
        stored, layout = self.found[name]
        found = maps.canonical_shape(stored.shape, layout)
        if found != shape:
            return f"its {name} has shape {list(found)} instead of {list(shape)}"
        return "" if stored.is_real else f"its {name} holds {stored.dataset.dtype} instead of floating-point numbers"

    def lacking(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return the names of the model's tensors that are missing or do not fit."""
        return [name for name, shape in shapes.items() if name not in self.found or self.misfit(name, shape)]


def read(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read tensors by canonical name, and the names without a place in the model.

    The backbone may be a nested model; tensors outside it are ignored, and so is a head in one model with it. Raises
    `Refused` if the file is unreadable or unsafe, or holds another network, a part of one, or values that are not
    finite. A plugin's model loads the tensors that fit.
    """
    network = _structure(model.build)
    older = _classifier(model, OLDER_CLASSIFIER_LAYER)
    table = {row.variable: row for row in (*_with_classifier(network, model), *heads.ROWS, *older)}
    shapes = {
        row.name: maps.canonical_shape(variable.shape, row.layout)
        for variable in network.backbone.weights
        for row in [table[variable.path]]
    }
    with open_stored(path, network.backbone) as scopes:
        translated = [_translate(title, stored, table) for title, stored in scopes.items()]
        scope = min(translated, key=lambda one: len(one.lacking(shapes)))
        _refuse_unfit(path, model, scope, shapes, table)
        arrays = _arrays(path, scope, table)
        for other in translated:
            if other is not scope and not other.lacking(shapes):
                _refuse_another(path, scope, other, {n: arrays[n] for n in shapes}, _arrays(path, other, table))
    refuse_not_finite(path, arrays)
    return arrays, scope.unmapped


@lru_cache(maxsize=1)
def _structure(build: Callable[[int], KerasNetwork]) -> KerasNetwork:
    # Built once for many files, as that takes most of the time to read one. It is never assigned to.
    with undrawn():
        return build(IMAGE_SIZE)


def _translate(title: str, stored: Mapping[str, Stored], table: Mapping[str, maps.MappedVariable]) -> _Translated:
    found: dict[str, tuple[Stored, maps.Layout]] = {}
    unmapped = []
    for variable, dataset in stored.items():
        row = table.get(variable)
        if row is None or len(dataset.shape) != maps.AXES[row.layout]:
            unmapped += [] if dataset.is_of_a_head else [variable]
        else:
            found[row.name] = dataset, row.layout
    return _Translated(title, found, tuple(unmapped))


def _arrays(path: str, scope: _Translated, table: Mapping[str, maps.MappedVariable]) -> dict[str, NDArray[Any]]:
    rows = (row for row in table.values() if row.name in scope.found)
    return {row.name: maps.to_canonical(scope.found[row.name][0].read(path), row.layout) for row in rows}


def _refuse_unfit(
    path: str,
    model: Model,
    scope: _Translated,
    shapes: Mapping[str, tuple[int, ...]],
    table: Mapping[str, maps.MappedVariable],
) -> None:
    lacking = scope.lacking(shapes)
    if 2 * len(lacking) > len(shapes):
        raise Refused(f"{path} is not {model.name}: {_difference(scope, table, shapes)}; name its own --model")
    if MODELS.get(model.name) is not model:  # a user's changed network loads the tensors that fit
        return
    if lacking:
        wrong = [text for name in lacking if name in scope.found and (text := scope.misfit(name, shapes[name]))]
        refuse_part(path, model.name, len(shapes), [name for name in lacking if name not in scope.found], wrong)
    families = {_family(variable) for variable in table if table[variable].name in shapes}
    more = [name for name in scope.unmapped if name.endswith("/kernel") and _family(name) in families]
    if more:
        raise Refused(
            f"{path} is not {model.name}: it has {len(more)} more layers like those ({some(more)}); "
            "name its own --model"
        )


def _family(variable: str) -> str:
    # The letters at the beginning of a layer's name: `block` of `block_17_expand/kernel`.
    return re.match("[A-Za-z]*", variable)[0]  # type: ignore[index]  # it matches the empty string too


def _refuse_another(
    path: str,
    scope: _Translated,
    other: _Translated,
    arrays: Mapping[str, NDArray[Any]],
    others: Mapping[str, NDArray[Any]],
) -> None:
    if any(not np.array_equal(array, others[name]) for name, array in arrays.items()):
        raise Refused(
            f"{path} holds two whole networks, {scope.title or 'its top level'} and {other.title or 'its top level'}; "
            "save only the one to load"
        )


def _difference(
    scope: _Translated, table: Mapping[str, maps.MappedVariable], shapes: Mapping[str, tuple[int, ...]]
) -> str:
    variables = {row.name: row.variable for row in table.values()}
    for name, shape in shapes.items():
        if name not in scope.found:
            first = f"; its first tensor is {scope.unmapped[0]}" if scope.unmapped else ""
            return f"it has no {name} ({variables[name]}){first}"
        if text := scope.misfit(name, shape):
            return text
    return "it has another structure"


def write(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write the backbone, and the classifier or new head if there is one, in the format of the file name.

    Raises `Refused` for a tensor that is missing, has a wrong shape, or has no place in the model.
    """
    with undrawn():
        network: KerasNetwork = model.build(IMAGE_SIZE)
        whole, table = _whole(network, model, arrays)
    _assign(whole, table, arrays)
    save = whole.save_weights if path.endswith(".weights.h5") else whole.save
    with written_whole(Path(path), Path(path).with_name(".partial-" + Path(path).name)) as partial:
        save(partial)  # the extension selects the format


def _whole(
    network: KerasNetwork, model: Model, arrays: Mapping[str, NDArray[Any]]
) -> tuple[Any, tuple[maps.MappedVariable, ...]]:
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


def _assign(whole: Any, table: tuple[maps.MappedVariable, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
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


def _with_classifier(network: KerasNetwork, model: Model) -> tuple[maps.MappedVariable, ...]:
    return (*network.table, *_classifier(model, CLASSIFIER_LAYER))


def _classifier(model: Model, layer: str) -> tuple[maps.MappedVariable, ...]:
    return maps.rows(layer, model.classifier.rstrip("."), "dense", -1)
