"""The variables of any Keras model: their names, owners, kinds and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from harness.auditing.auditor import beginning
from harness.auditing.ledger import Kind


class OwnedVariable(NamedTuple):
    """A variable, its name `layer/…/variable` inside the model, and the layer that owns it."""

    name: str
    variable: Any
    layer: Any
    kind: Kind | Literal["seed"]


def places(model: Any) -> list[OwnedVariable]:
    """Return every variable of the model once, seeds included; names include nested models, unlike Keras' paths.

    Raises ValueError for a model without variables.
    """
    found: dict[str, OwnedVariable] = {}
    seen: set[int] = set()
    for path, layer in layers_of(model).items():
        of_inner = {id(variable) for one in _inner(layer) for variable in one.variables}
        for variable in layer.variables:
            if id(variable) not in of_inner | seen:
                seen.add(id(variable))
                name = f"{path}/{variable.name}" if path else str(variable.name)
                while name in found:
                    name += "'"
                found[name] = OwnedVariable(name, variable, layer, _kind(layer, variable))
    if not found:
        raise ValueError(f"{model.name} has no variables yet; build it or call it once before the audit")
    return list(found.values())


def layers_of(model: Any) -> dict[str, Any]:
    """Return the model under the name "" and each of its layers once by path, parents first."""
    found = {"": model}
    seen = {id(model)}

    def visit(layer: Any, path: str) -> None:
        for inner in _inner(layer):
            if id(inner) not in seen:
                seen.add(id(inner))
                name = f"{path}/{inner.name}" if path else str(inner.name)
                while name in found:
                    name += "'"
                found[name] = inner
                visit(inner, name)

    visit(model, "")
    return found


def _inner(layer: Any) -> list[Any]:
    direct: list[Any] = layer._flatten_layers(include_self=False, recursive=False)
    return direct


def _kind(layer: Any, variable: Any) -> Kind | Literal["seed"]:
    if any(variable is generator.state for generator in layer._seed_generators):
        return "seed"
    if any(variable is one for one in layer._trainable_variables):  # also lists frozen weights
        return "parameter"
    norm = isinstance(layer, keras.layers.BatchNormalization)
    return "statistic" if norm and variable.name in ("moving_mean", "moving_variance") else "buffer"


def members(model: Any, one: Any) -> list[str] | None:
    """Return the names of the variables in a part of the model, given as a layer or a prefix of names.

    Returns None if `one` is neither; raises ValueError for a layer of another model.
    """
    tensors = [place for place in places(model) if place.kind != "seed"]
    if isinstance(one, str):
        found = beginning(one, [place.name for place in tensors], "/")
        names_a_layer = one and one.removesuffix("/") in layers_of(model)
        return found if found or names_a_layer else None
    if not isinstance(one, keras.layers.Layer):
        return None
    if all(layer is not one for layer in layers_of(model).values()):
        raise ValueError(f"frozen: the layer {one.name} is not part of {model.name}")
    inside = {id(variable) for variable in one.variables}
    return [place.name for place in tensors if id(place.variable) in inside]


def frozen_layers(model: Any, frozen: frozenset[str], whole: tuple[Any, ...]) -> dict[Any, str]:
    """Return the layers whose tensors are all frozen, those in `whole`, and all layers inside them, with names."""
    beginnings = {one.removesuffix("/") for one in whole if isinstance(one, str)}
    of_variable = {id(place.variable): place.name in frozen for place in places(model) if place.kind != "seed"}
    found: dict[Any, str] = {}
    inside: set[str] = set()
    for name, layer in layers_of(model).items():
        held = [of_variable[id(variable)] for variable in layer.variables if id(variable) in of_variable]
        named = name in beginnings or any(one is layer for one in whole)
        if named or (held and all(held)) or (name and not inside.isdisjoint(_parents(name))):
            inside.add(name)
            found[layer] = name
    return found


def _parents(name: str) -> Iterator[str]:
    yield ""
    parts = name.split("/")
    yield from ("/".join(parts[:count]) for count in range(1, len(parts)))


def view(variable: Any) -> NDArray[Any]:
    """Return the memory of a variable if it is on the CPU, otherwise a copy."""
    return array_of(variable.value)


def array_of(value: Any) -> NDArray[Any]:
    """Return a tensor of the engine as a NumPy array, without a copy if possible."""
    engine = keras.backend.backend()
    if engine == "torch":
        plain = value.detach().cpu()
        found = plain.float() if str(plain.dtype) == "torch.bfloat16" else plain  # exact
        return np.asarray(found.numpy())
    if engine == "tensorflow":
        tensor = value.read_value() if hasattr(value, "read_value") else value
        # A memoryview avoids the copy of numpy(); bfloat16 tensors and other devices do not support it.
        direct = tensor.dtype.name != "bfloat16" and "CPU" in tensor.device
        return np.asarray(memoryview(tensor) if direct else tensor.numpy())
    return np.asarray(value)


def by_owner(model: Any, variables: list[Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return optimizer variables by the name of their tensor and their slot name, both from Keras' naming."""
    owners = {place.variable.path.replace("/", "_"): place.name for place in places(model)}
    found: dict[str, dict[str, Any]] = {}
    for variable in variables:
        owner = max((one for one in owners if variable.name.startswith(f"{one}_")), key=len, default=None)
        if owner is not None:
            found.setdefault(owners[owner], {})[variable.name.removeprefix(f"{owner}_")] = variable
    return found


def holds(optimizer: Any, variable: Any) -> bool:
    """Return whether the optimizer was built for a variable."""
    return optimizer._var_key(variable) in optimizer._trainable_variables_indices
