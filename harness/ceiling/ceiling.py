"""A measured ceiling as data, and the arithmetic of a training step that follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from harness.spec import Frozen, Part, Precision

Pass = Literal["forward", "input gradient", "weight gradient"]
"""A layer computes its output, the gradient of its input, and the gradient of its weights."""


class LayerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One layer and the shortest measured seconds of each of its passes for a whole batch.

    `macs` are the multiply-accumulates of one image, equal in every pass; 0 for a layer without convolution or matrix
    product. The input needs a gradient while fewer than `gradient_until` blocks are frozen. `block` is -1 in the head.
    `tensor_bytes` are those of input, output and weights for a whole batch, each counted once, about the same in every
    pass; 0 in files of earlier versions.
    """

    name: str
    kind: str
    part: Part
    block: int
    macs: int
    gradient_until: int
    seconds: dict[Pass, float]
    tensor_bytes: int = 0

    def passes(self, frozen: int, kept: int) -> Iterator[Pass]:
        """Yield the passes of a training step with that many frozen blocks and blocks whose features are kept."""
        of_backbone = self.part == "backbone"
        if of_backbone and self.block < kept:
            return
        yield "forward"
        if frozen < self.gradient_until:
            yield "input gradient"
        if not (of_backbone and self.block < frozen):
            yield "weight gradient"


class StepCost(NamedTuple):
    """One image in a training step: FLOPs, their seconds at the ceiling, and those of other trained layers by kind.

    `tensor_bytes` are those of the layers with FLOPs.
    """

    flops: int
    seconds: float
    other_seconds: dict[str, float]
    tensor_bytes: float


class PassRate(NamedTuple):
    """One pass of a layer, measured alone: FLOPs per second, and FLOPs per byte of its tensors."""

    layer: str
    step: Pass
    rate: float
    intensity: float


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The measured layers of one network on one machine, computed alone by one backend in its fastest layout.

    A machine is faster or equal, never slower, so of several ceilings the fastest is valid for all backends.
    """

    machine: str
    backend: str
    model: str
    image_size: int
    head: str
    device: str
    device_name: str
    precision: Precision
    threads: int
    idiom: bool
    batch_size: int
    layers: tuple[LayerTimes, ...]
    cpu_over_wall: float
    """CPU seconds per second of the timed blocks; on a CPU, much less than `threads` if other programs ran."""
    versions: dict[str, str]
    made: str

    def step(self, frozen: Frozen = "none", kept: Frozen = "none") -> StepCost:
        """Return the cost of one image in a step that freezes a part and reads the features of another one.

        A frozen layer has no gradient of its weights; the gradient of an input is computed only above a trained layer.
        """
        flops, seconds, moved, other = 0, 0.0, 0.0, Counter[str]()
        for layer in self.layers:
            passes = tuple(layer.passes(self._blocks(frozen), self._blocks(kept)))
            spent = sum(layer.seconds.get(one, 0.0) for one in passes) / self.batch_size
            if layer.macs:
                flops += 2 * layer.macs * len(passes)
                seconds += spent
                moved += layer.tensor_bytes * len(passes) / self.batch_size
            elif "weight gradient" in passes:
                other[layer.kind] += spent  # type: ignore[assignment]
        return StepCost(flops, seconds, dict(other), moved)

    @property
    def disturbed(self) -> bool:
        """Whether threads on a CPU lacked a core for more than a tenth of the time, so that the ceiling is too low."""
        return self.device == "cpu" and self.cpu_over_wall < 0.9 * self.threads

    @property
    def flops_per_second(self) -> float:
        """FLOPs of a step that trains everything, divided by the sum of the shortest times."""
        cost = self.step()
        return cost.flops / cost.seconds

    @property
    def peak(self) -> tuple[float, str]:
        """The highest rate of one pass of one layer, in FLOPs per second, and its name."""
        return max(
            (2 * layer.macs * self.batch_size / seconds, f"{layer.name}, {one}")
            for layer in self.layers
            for one, seconds in layer.seconds.items()
            if layer.macs
        )

    @property
    def bytes_per_second(self) -> float:
        """The highest rate at which a pass of any layer moved the bytes of its tensors; 0 if they are not known."""
        return max(layer.tensor_bytes / seconds for layer in self.layers for seconds in layer.seconds.values())

    def rates(self) -> Iterator[PassRate]:
        """Yield each pass of the layers with FLOPs whose bytes are known."""
        for layer in self.layers:
            if layer.macs and layer.tensor_bytes:
                flops = 2 * layer.macs * self.batch_size
                for one, seconds in layer.seconds.items():
                    yield PassRate(layer.name, one, flops / seconds, flops / layer.tensor_bytes)

    def _blocks(self, part: Frozen) -> int:
        if part == "backbone":
            return 1 + max(layer.block for layer in self.layers)
        return 0 if part == "none" else part
