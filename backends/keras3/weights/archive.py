"""The datasets of a Keras file by variable path, `layer/variable`, without building layers from the file.

A file has one scope for its model and one for each nested model. Names are unique within a scope only.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from harness.errors import Refused

_CODE = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"})
_HEAD_LAYER = re.compile(r"(dense|(batch|layer|group|rms)_normalization|p_re_lu|einsum_dense)(_\d+)?")
LARGEST = 2**31
"""Maximum size in bytes of a tensor that is read, far above any tensor of a supported network."""


class Stored(NamedTuple):
    """One dataset, not read yet."""

    dataset: Any
    shape: tuple[int, ...]
    behind: bool = False
    """Whether its layer follows the backbone's last one and is no convolution; only files before Keras 3 tell."""

    @property
    def is_of_a_head(self) -> bool:
        """Whether the layer is of a class that the supported backbones have only in a head, or one more batch norm."""
        return self.behind or any(_HEAD_LAYER.fullmatch(part) for part in str(self.dataset.name).split("/"))

    @property
    def is_real(self) -> bool:
        """Whether the values are floating-point numbers."""
        return np.issubdtype(self.dataset.dtype, np.floating) or self.dataset.attrs.get("dtype") == "bfloat16"

    def read(self, path: str) -> NDArray[Any]:
        """Read the values. Raise `Refused` if they cannot be read."""
        try:
            array = np.asarray(self.dataset)
            # HDF5 has no bfloat16: Keras stores the bits, the upper half of a float32.
            if self.dataset.attrs.get("dtype") == "bfloat16" and array.dtype.itemsize == 2:
                return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            return array
        except OSError as error:
            raise Refused(f"{path}: {self.dataset.name} cannot be read ({error}); fetch the file again") from error


@contextmanager
def open_stored(path: str, backbone: Any) -> Iterator[Mapping[str, Mapping[str, Stored]]]:
    """Yield datasets by scope and `layer/variable`, with the names of the backbone.

    Raises `Refused` if the file is not a Keras file.
    """
    try:
        file = h5py.File(_content(path), "r")
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"{path} is not a readable Keras file ({reason}); fetch or save it again") from error
    with file:
        try:
            found = _find(file, backbone, path)
        except (KeyError, RuntimeError, ValueError, OSError) as error:  # as h5py reports damage
            raise Refused(f"{path} lacks a tensor that it lists ({error}); fetch or save it again") from error
        yield found


def _content(path: str) -> Any:
    if not zipfile.is_zipfile(path) and not path.lower().endswith(".keras"):
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            code = next(_classes(config, _CODE), None)
            if code:
                raise Refused(f"{path} holds a {code} layer, which is code; save only its weights")
            if archive.getinfo("model.weights.h5").file_size > LARGEST:
                raise Refused(f"{path} unpacks to more than {LARGEST >> 30} GB; this backend has no network that large")
            return io.BytesIO(archive.read("model.weights.h5"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise Refused(f"{path} is not a readable .keras file ({error}); fetch or save it again") from error


def _classes(config: Any, wanted: frozenset[str]) -> Iterator[str]:
    if isinstance(config, dict):
        if config.get("class_name") in wanted:
            yield config["class_name"]
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _classes(item, wanted)


def _find(file: Any, backbone: Any, path: str) -> dict[str, dict[str, Stored]]:
    group = file.get("model_weights", file)
    legacy = "layer_names" in group.attrs or "layer_names0" in group.attrs
    scopes = _legacy(group, backbone) if legacy else _named_groups(file, backbone)
    if not any(scopes.values()):
        raise Refused(f"{path} holds no Keras layers; save it with model.save or model.save_weights")
    for name, dataset in (pair for scope in scopes.values() for pair in scope.items()):
        elsewhere = dataset.external or dataset.is_virtual or dataset.file.filename != file.filename
        if elsewhere or dataset.nbytes > LARGEST:
            raise Refused(f"{path}: {name} is stored outside the file or too large; fetch or save it again")
    behind = _behind(group, backbone) if legacy else frozenset()
    return {
        title: {n: Stored(d, d.shape, d.name in behind) for n, d in scope.items()} for title, scope in scopes.items()
    }


def _named_groups(file: Any, backbone: Any) -> dict[str, dict[str, Any]]:
    """Read the format of Keras 3: groups `SCOPE/CLASS_n/vars` with datasets `0`, `1`, … in the layer's order.

    Since Keras 3.6 the group has the layer's name; before, class and number identify the layer.
    """
    containers = _containers(backbone)
    layers = {layer.name: layer for layer in backbone.layers}
    scopes: dict[str, dict[str, Any]] = {}

    # visititems does not follow links, so every dataset is in this file.
    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or "optimizer" in name.split("/"):
            return
        group = item.parent
        within = name.rpartition("/")[0].removesuffix("/vars")
        scope, _, container = within.rpartition("/")
        layer = str(group.attrs.get("name", containers.get(container, container)))
        scopes.setdefault(scope, {})[f"{layer}/{_variable(layers.get(layer), item.name)}"] = item

    file.visititems(visit)
    return scopes


def _variable(layer: Any, name: str) -> str:
    place = name.rpartition("/")[2]
    if layer is None:
        return {"0": "kernel", "1": "bias"}.get(place, place)
    names = [variable.name for variable in layer.weights]
    return names[int(place)] if place.isdigit() and int(place) < len(names) else place


def _containers(backbone: Any) -> dict[str, str]:
    # Keras names a model's layers inside a file by their class in snake case, numbered.
    used: dict[str, int] = {}
    names = {"dense": "predictions"}
    for layer in backbone.layers:
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        used[kind] = used.get(kind, -1) + 1
        names[f"{kind}_{used[kind]}" if used[kind] else kind] = layer.name
    return names


def _legacy(group: Any, backbone: Any) -> dict[str, dict[str, Any]]:
    """Read the format before Keras 3: a group per layer with an attribute `weight_names`.

    A nested model is a layer with weights of several layers. If names differ, layers are matched by order, as Keras
    does: some names in the published MobileNetV2 files (`mobl3_conv_3_expand`) are not those of today's network.
    """
    scopes: dict[str, dict[str, Any]] = {"": {}}
    by_layer: list[list[Any]] = []
    for layer in _attribute(group, "layer_names"):
        datasets = _of_layer(group, layer)
        if datasets:
            by_layer.append(list(datasets.values()))
        paths = {("/" + name).rpartition("/")[0].rpartition("/")[2]: None for name in datasets}
        scope = scopes.setdefault(layer if len(paths) > 1 else "", {})
        for name, dataset in datasets.items():
            *_, owner, variable = ["", layer, *name.split("/")]
            variable = variable.partition(":")[0].replace("depthwise_kernel", "kernel")
            scope[f"{owner}/{variable}"] = dataset
    layers = [layer for layer in backbone.layers if layer.weights]
    known = {f"{layer.name}/{layer.weights[0].name}" for layer in layers}
    all_named = any(known <= scope.keys() for scope in scopes.values())
    beside = by_layer[len(layers) :]
    if all_named or len(by_layer) < len(layers) or (len(beside) > 1 and not _is_head(beside, by_layer, layers)):
        return scopes
    return {"": _in_order(by_layer, layers)}


def _behind(group: Any, backbone: Any) -> frozenset[str]:
    """Return the names of all datasets of layers behind the backbone's last one, up to the first convolution."""
    own, layers = {layer.name for layer in backbone.layers}, _attribute(group, "layer_names")
    last = max((place for place, layer in enumerate(layers) if layer in own), default=len(layers))
    found: list[str] = []
    for layer in layers[last + 1 :]:
        datasets = _of_layer(group, layer).values()
        if any(len(dataset.shape) > 2 for dataset in datasets):
            break
        found += [dataset.name for dataset in datasets]
    return frozenset(found)


def _of_layer(group: Any, layer: str) -> dict[str, Any]:
    """Return the datasets that the attribute of a layer's group lists. Raises KeyError for one that is missing."""
    own = group[layer]
    if not isinstance(own, h5py.Group):
        raise KeyError(layer)
    found = {name: own.get(name) for name in _attribute(own, "weight_names")}
    if wrong := [name for name, item in found.items() if not isinstance(item, h5py.Dataset)]:
        raise KeyError(wrong[0])
    return found


def _is_head(beside: list[list[Any]], by_layer: list[list[Any]], layers: list[Any]) -> bool:
    # Layers without convolutions behind layers with the backbone's shapes.
    shapes = [[tuple(variable.shape) for variable in layer.weights] for layer in layers]
    found = [[tuple(dataset.shape) for dataset in datasets] for datasets in by_layer[: len(layers)]]
    return found == shapes and all(len(dataset.shape) <= 2 for datasets in beside for dataset in datasets)


def _in_order(by_layer: list[list[Any]], layers: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{layer.name}/{variable.name}": dataset
        for layer, datasets in zip(layers, by_layer, strict=False)
        for variable, dataset in zip(layer.weights, datasets, strict=False)
    }
    beside = by_layer[len(layers) :]
    for classifier in beside if len(beside) == 1 else ():  # several layers are a head of one's own
        found |= {f"predictions/{name}": item for name, item in zip(("kernel", "bias"), classifier, strict=False)}
    return found


def _attribute(group: Any, name: str) -> list[str]:
    # HDF5 limits an attribute to 64 kB; Keras splits a longer list into `name0`, `name1`, …
    numbered = sorted((key for key in group.attrs if re.fullmatch(name + r"\d+", key)), key=len)
    parts = [name] if name in group.attrs else numbered
    return [n.decode() if isinstance(n, bytes) else str(n) for part in parts for n in group.attrs[part]]
