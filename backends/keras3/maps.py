"""Weight maps as data: where each Keras variable lives under canonical (torchvision's) names and layout.

One row per variable, used in both directions. A map that misses or repeats a tensor is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contract import Role

Layout = Literal["conv", "depthwise", "dense", "vector"]
Kind = Literal["conv", "depthwise", "dense", "norm"]


class Row(NamedTuple):
    """One variable: its Keras path, its canonical name, how the axes lie, its role, and its block of the backbone."""

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


def rows(layer: str, name: str, kind: Kind, block: int, *, bias: bool = True) -> tuple[Row, ...]:
    """The rows of one layer.

    >>> rows("Conv1", "features.0.0", "conv", 0, bias=False)
    (Row(variable='Conv1/kernel', name='features.0.0.weight', layout='conv', role='weight', block=0),)
    """
    return tuple(
        Row(f"{layer}/{variable}", f"{name}.{end}", layout, role, block)
        for variable, end, layout, role in _VARIABLES[kind]
        if bias or variable != "bias"
    )


def to_canonical(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """A Keras array as torch lays it out: HWIO to OIHW, depthwise (h, w, c, m) to (c * m, 1, h, w), [in, out] turned.

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
    """The way back; `channels` are those a depthwise kernel reads, all of its outputs if not given.

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
    """Shape of a Keras variable under canonical layout.

    >>> canonical_shape((3, 3, 3, 16), "conv")
    (16, 3, 3, 3)
    """
    return to_canonical(np.broadcast_to(np.float32(0), tuple(shape)), layout).shape


def check(variables: Iterable[str], table: Sequence[Row]) -> None:
    """Raise ValueError unless each variable path has exactly one row, and each canonical name too.

    >>> check(["a/kernel"], [])
    Traceback (most recent call last):
    ValueError: the weight map misses a/kernel
    """
    paths = list(variables)
    seen: set[str] = set()
    for row in table:
        for name in (row.variable, row.name):
            if name in seen:
                raise ValueError(f"the weight map repeats {name}")
            seen.add(name)
        if row.variable not in paths:
            raise ValueError(f"the weight map has {row.name} at {row.variable}, which the network does not have")
    for path in paths:
        if path not in seen:
            raise ValueError(f"the weight map misses {path}")


def _mobilenet_v2() -> tuple[Row, ...]:
    """keras.applications.MobileNetV2 of any width against torchvision.models.mobilenet_v2."""

    def pair(layer: str, norm: str, conv: str, after: str, kind: Kind, block: int) -> tuple[Row, ...]:
        prefix = f"features.{block}."
        return (
            *rows(layer, prefix + conv, kind, block, bias=False),
            *rows(norm, prefix + after, "norm", block),
        )

    table = list(pair("Conv1", "bn_Conv1", "0", "1", "conv", 0))
    table += pair("expanded_conv_depthwise", "expanded_conv_depthwise_BN", "conv.0.0", "conv.0.1", "depthwise", 1)
    table += pair("expanded_conv_project", "expanded_conv_project_BN", "conv.1", "conv.2", "conv", 1)
    for block in range(2, 18):
        layer = f"block_{block - 1}_"
        table += pair(f"{layer}expand", f"{layer}expand_BN", "conv.0.0", "conv.0.1", "conv", block)
        table += pair(f"{layer}depthwise", f"{layer}depthwise_BN", "conv.1.0", "conv.1.1", "depthwise", block)
        table += pair(f"{layer}project", f"{layer}project_BN", "conv.2", "conv.3", "conv", block)
    table += pair("Conv_1", "Conv_1_bn", "0", "1", "conv", 18)
    return tuple(table)


MOBILENET_V2 = _mobilenet_v2()
