"""Sins in kept features: of other weights, other inputs, or another mode of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from backends.reference.layers import BatchNorm
from benchmarks.selftest import fixtures
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace, sin
from harness.data.checkpoint import NORMALISATIONS
from harness.data.kept_features import KeptFeatures
from harness.spec import Frozen


@sin("features of other weights", "V53", features="kept")
def stale(at: SinPlace) -> Iterator[None]:
    """Gross: of weights before they were loaded. Subtle: one tensor of the first block was a hundredth larger."""

    class Stale(SimulatedSession):
        def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
            first = [v for v in self.network.variables if v.block == 0 and v.role == "weight"]
            changed = [v for v in self.network.variables if v.part == "backbone"] if at.gross else [at.one_of(first)]
            before = [variable.array.copy() for variable in changed]
            for variable in changed:
                variable.array[...] = 0.5 if at.gross else variable.array * 1.01
            found = super().features(images, part)
            for variable, array in zip(changed, before, strict=True):
                variable.array[...] = array
            return found

    with second_backend(Stale):
        yield


@sin("features of other input scaling", "V53", features="kept")
def other_scaling(at: SinPlace) -> Iterator[None]:
    """Gross: pixels from -1 to 1 instead of ImageNet's. Subtle: one channel is a hundredth brighter."""
    right, wrong = NORMALISATIONS["imagenet"], NORMALISATIONS["minus-one-to-one"]
    channel = int(at.draw.integers(3))

    class Scaling(SimulatedSession):
        def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
            scaled = images.copy()
            if at.gross:
                pixels = images * np.array(right.std) + np.array(right.mean)
                scaled = ((pixels - np.array(wrong.mean)) / np.array(wrong.std)).astype(np.float32)
            else:
                scaled[..., channel] *= np.float32(1.01)
            return super().features(scaled, part)

    with second_backend(Scaling):
        yield


@sin("features of moving statistics", "V53", features="kept")
def moving_statistics(at: SinPlace) -> Iterator[None]:
    """Gross: batch norm normalises by the batch. Subtle: one of its layers does."""

    class Moving(SimulatedSession):
        def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
            x = images.astype(self.dtype, copy=False)
            layers = self.network.layers[: self.network.entrance(part)]
            norms = [layer for layer in layers if isinstance(layer, BatchNorm)]
            moving = norms if at.gross else [at.one_of(norms)]
            for layer in layers:
                if isinstance(layer, BatchNorm) and layer in moving:
                    axes = (0, 1, 2)
                    x = (x - x.mean(axes)) / np.sqrt(x.var(axes) + layer.EPS)
                    x = x * layer.scale.array + layer.shift.array
                else:
                    x, _ = layer.forward(x, training=False)
            return x.astype(self.dtype, copy=False)

    with second_backend(Moving):
        yield


@sin("features with dropout left on", "V53", features="kept")
def dropping(at: SinPlace) -> Iterator[None]:
    """Gross: half of the values are dropped. Subtle: a twentieth."""
    rate = 0.5 if at.gross else 0.05

    class Dropping(SimulatedSession):
        def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
            found = super().features(images, part)
            mask = at.draw.random(found.shape) >= rate
            return (found * mask / (1 - rate)).astype(found.dtype)

    with second_backend(Dropping):
        yield


@sin("features of another view", "V53", features="kept")
def other_view(at: SinPlace) -> Iterator[None]:
    """Gross: of every training image flipped. Subtle: of one image in each batch."""
    honest, first = KeptFeatures.add, 0 if at.gross else int(at.draw.integers(fixtures.BATCH))
    every = 1 if at.gross else fixtures.BATCH

    def other(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        images = images.copy()
        images[first::every] = images[first::every, :, ::-1]
        return images

    def add(self: KeptFeatures, groups: Iterable[NDArray[np.uint8]]) -> list[list[bytes]]:
        training = self.batch_size == fixtures.BATCH  # not in evaluation
        return honest(self, map(other, groups) if training else groups)

    with patch.object(KeptFeatures, "add", add):
        yield
