"""Weight maps as data: the canonical (torchvision's) name and layout of each Keras variable.

A map has one row per variable and is used in both directions. A missing, repeated or wrongly laid out tensor is an
error that names it. Each map is in the module of its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contract import Role

Layout = Literal["conv", "depthwise", "dense", "vector"]
AXES: Mapping[Layout, int] = {"conv": 4, "depthwise": 4, "dense": 2, "vector": 1}
Kind = Literal["conv", "depthwise", "dense", "norm"]


class MappedVariable(NamedTuple):
    """One variable: Keras path, canonical name, layout of the axes, role, and block of the backbone."""

    variable: str
    name: str
    layout: Layout
    role: Role
    block: int


_VARIABLES: Mapping[Kind, tuple[tuple[str, str, Layout, Role], ...]] = {
    "conv": (("kernel", "weight", "conv", "weight"), ("bias", "bias", "vector", "bias")),
    "depthwise": (("kernel", "weight", "depthwise", "weight"), ("bias", "bias", "vector", "bias")),
    "dense": (("kernel", "weight", "dense", "weight"), ("bias", "bias", "vector", "bias")),
    "norm": (
        ("gamma", "weight", "vector", "norm_scale"),
        ("beta", "bias", "vector", "norm_bias"),
        ("moving_mean", "running_mean", "vector", "norm_mean"),
        ("moving_variance", "running_var", "vector", "norm_var"),
    ),
}


def rows(layer: str, name: str, kind: Kind, block: int, *, bias: bool = True) -> tuple[MappedVariable, ...]:
    """Return the rows of one layer.

    >>> rows("Conv1", "features.0.0", "conv", 0, bias=False)
    (Row(variable='Conv1/kernel', name='features.0.0.weight', layout='conv', role='weight', block=0),)
    """
    return tuple(
        MappedVariable(f"{layer}/{variable}", f"{name}.{end}", layout, role, block)
        for variable, end, layout, role in _VARIABLES[kind]
        if bias or variable != "bias"
    )


def to_canonical(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Convert a Keras array to torch's layout: HWIO to OIHW, depthwise HWCM to (c * m, 1, h, w), dense transposed.

    >>> to_canonical(np.zeros((3, 3, 8, 2)), "depthwise").shape
    (16, 1, 3, 3)
    """
    if layout == "conv":
        array = array.transpose(3, 2, 0, 1)
    elif layout == "depthwise":
        height, width, channels, multiplier = array.shape
        array = array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    elif layout == "dense":
        array = array.T
    return np.ascontiguousarray(array)


def to_keras(array: NDArray[Any], layout: Layout, channels: int | None = None) -> NDArray[Any]:
    """Convert to Keras' layout; `channels` are the input channels of a depthwise kernel, by default its outputs.

    >>> to_keras(np.zeros((16, 1, 3, 3)), "depthwise", channels=8).shape
    (3, 3, 8, 2)
    """
    if layout == "conv":
        array = array.transpose(2, 3, 1, 0)
    elif layout == "depthwise":
        total, _, height, width = array.shape
        channels = channels or total
        array = array.reshape(channels, total // channels, height, width).transpose(2, 3, 0, 1)
    elif layout == "dense":
        array = array.T
    return np.ascontiguousarray(array)


def canonical_shape(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """Return the shape of a Keras variable in canonical layout.

    >>> canonical_shape((3, 3, 3, 16), "conv")
    (16, 3, 3, 3)
    """
    return to_canonical(np.broadcast_to(np.float32(0), tuple(shape)), layout).shape


def check(shapes: Mapping[str, Sequence[int]], table: Sequence[MappedVariable]) -> None:
    """Raise ValueError unless each variable path has exactly one row, as many axes as its layout, and one name.

    >>> check({"a/kernel": (3, 4)}, [])
    Traceback (most recent call last):
    ValueError: the weight map misses a/kernel
    """
    seen: dict[str, str] = {}
    for row in table:
        for name, other in ((row.variable, row.name), (row.name, row.variable)):
            if name in seen:
                raise ValueError(f"the weight map repeats {name}, for {seen[name]} and {other}")
            seen[name] = other
        if row.variable not in shapes:
            raise ValueError(f"the weight map has {row.name} at {row.variable}, which the network does not have")
        shape = shapes[row.variable]
        if len(shape) != AXES[row.layout]:
            raise ValueError(f"the weight map has layout {row.layout} for {row.name}; {row.variable} is {list(shape)}")
    for path in shapes:
        if path not in seen:
            raise ValueError(f"the weight map misses {path}")


def fitted(array: NDArray[Any], row: MappedVariable, shape: Sequence[int]) -> NDArray[Any]:
    """Convert a canonical array for the Keras variable of a row. Raise ValueError for a wrong shape.

    >>> fitted(np.zeros((4, 5)), rows("top", "fc", "dense", -1)[0], (6, 4))
    Traceback (most recent call last):
    ValueError: fc.weight [4, 5] does not fit top/kernel [6, 4], which needs [4, 6]
    """
    wanted = canonical_shape(shape, row.layout)
    if array.shape != wanted:
        found = f"{row.name} {list(array.shape)}"
        raise ValueError(f"{found} does not fit {row.variable} {list(shape)}, which needs {list(wanted)}")
    return to_keras(array, row.layout, shape[-2] if row.layout == "depthwise" else None)
