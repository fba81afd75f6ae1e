"""A plugin that brings a model to the reference backend: two blocks instead of three."""

from __future__ import annotations

from numpy.typing import DTypeLike

from backends.reference.layers import BatchNorm, Conv, GlobalAveragePool, Operation, ReLU
from harness.contract import Model


def two_blocks(dtype: DTypeLike) -> tuple[list[Operation], int]:
    """The backbone, and the width of its features."""
    layers: list[Operation] = []
    for block, (inputs, outputs) in enumerate([(3, 4), (4, 8)]):
        conv = Conv(f"features.{block}.0", inputs, outputs, dtype)
        norm = BatchNorm(f"features.{block}.1", outputs, dtype)
        for variable in (*conv.variables, *norm.variables):
            variable.block = block
        layers += [conv, norm, ReLU(f"features.{block}.2")]
    return [*layers, GlobalAveragePool("pool")], 8


MODELS = {"reference": [Model(name="two-blocks", build=two_blocks, classifier="classifier.", blocks=2, gmacs=0.005)]}
