"""The layers of a network as functions that compute one pass alone (`harness.ceiling.measure.Layered`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from backends.reference.layers import Array, Operation
from backends.reference.network import ReferenceNetwork
from harness.ceiling.ceiling import Pass
from harness.ceiling.measure import LayerWork
from harness.contract import BUFFERS

Passes = Mapping[Pass, Callable[[], object]]


def layer_work(network: ReferenceNetwork, images: Array) -> Iterator[LayerWork]:
    """Yield the layers for a batch of images [n, h, w, 3]; of a convolution only the matrix product."""
    x, block, trained = images, 0, 0
    for layer in network.layers:
        block = layer.variables[0].block if layer.variables else block
        inputs, (x, saved) = x, layer.forward(x, True)
        matrix = next((v.array for v in layer.variables if v.role == "weight"), None)
        until = trained
        if any(v.role not in BUFFERS for v in layer.variables):
            # A layer of the head is always trained, one of block b as long as at most b blocks are frozen.
            trained = 2 + max(v.block for v in network.variables) if block < 0 else block + 1
        yield LayerWork(
            name=layer.name,
            kind=type(layer).__name__,
            part="head" if block < 0 else "backbone",
            block=block,
            macs=0 if matrix is None else math.prod(x.shape[1:-1]) * matrix.size,
            gradient_until=until,
            tensor_bytes=_bytes(inputs, x, matrix),
            alike=f"{type(layer).__name__} {inputs.shape} {x.shape}",
            layouts={
                "channels-last": partial(_whole, layer, inputs, x, saved)
                if matrix is None
                else partial(_product, math.prod(x.shape[:-1]), matrix.reshape(len(matrix), -1))
            },
        )


def _bytes(inputs: Array, outputs: Array, matrix: Array | None) -> int:
    """Return the bytes of a pass; those of a product are of the patches, which are the rows of its first matrix."""
    if matrix is None:
        return inputs.nbytes + outputs.nbytes
    patches = math.prod(outputs.shape[:-1]) * (matrix.size // len(matrix))
    return int(patches * matrix.itemsize + outputs.nbytes + matrix.nbytes)


def _product(rows: int, matrix: Array) -> Passes:
    draw = np.random.default_rng(0)
    outputs, width = matrix.shape
    inputs, gradient = (draw.standard_normal((rows, columns)).astype(matrix.dtype) for columns in (width, outputs))
    return {
        "forward": lambda: inputs @ matrix.T,
        "input gradient": lambda: gradient @ matrix,
        "weight gradient": lambda: gradient.T @ inputs,
    }


def _whole(layer: Operation, inputs: Array, outputs: Array, saved: object) -> Passes:
    gradient = np.ones_like(outputs)
    return {
        "forward": lambda: layer.forward(inputs, True),
        "input gradient": lambda: layer.backward(gradient, saved, True),
    }
