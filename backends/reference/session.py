"""One network on the CPU, trained with a plain loop."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backends.reference.layer_work import layer_work
from backends.reference.layers import Variable
from backends.reference.network import ReferenceNetwork, cross_entropy, new_head
from backends.reference.optimizers import Updates
from backends.reference.weights import read_npz, write_npz
from harness.ceiling.measure import LayerWork
from harness.clock import Clock
from harness.contract import BUFFERS, Effective, Layer, Model, Tensor
from harness.data.feed import Batch, Feed
from harness.running.observer import Work
from harness.schedule import factors
from harness.spec import Case, Frozen, Stage

NATIVE_FILE = "model.npz"


class ReferenceSession:
    """A `harness.contract.Session`. It computes in `dtype`, by default the case's precision."""

    batch_layout: Literal["nhwc", "nchw"] = "nhwc"
    wall_part: str = "step"

    def __init__(self, case: Case, model: Model, classes: int, dtype: DTypeLike | None = None) -> None:
        if dtype is None:
            dtype = np.float64 if case.precision == "fp64" else np.float32
        backbone, self.head_features = model.build(dtype)
        self.network = ReferenceNetwork([*backbone, *new_head(case.head, self.head_features, classes, dtype)])
        if not case.dropout:
            self.network.drop_nothing()
        self.dtype = np.dtype(dtype)
        self.case = case
        self.updates: Updates | None = None
        self._after: Frozen = "none"

    def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
        self.begin(stage)
        self._after = feed.kept.part if feed.kept else "none"
        factor = iter(factors(stage.schedule, stage.epochs, feed.steps_per_epoch).tolist())
        for epoch in range(stage.epochs):
            batches = feed.epoch(epoch)
            clock.epoch_begin()
            for batch in batches:
                clock.tick(self.step(batch, stage, next(factor)))
            clock.epoch_end()

    def begin(self, stage: Stage) -> list[Variable]:
        """Freeze what the stage declares and create its optimizer; return the trainable parameters."""
        trained = self.network.declare(stage, self.case.seed)
        self.updates = Updates(stage, trained)
        return trained

    def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
        """Make one optimizer step and return the loss; `factor` is the schedule's factor on the learning rates."""
        inputs = batch.inputs.astype(self.dtype, copy=False)
        logits, tape = self.network.forward(inputs, training=True, after=self._after)
        loss, gradient = cross_entropy(logits, batch.labels, stage.label_smoothing)
        self.network.backward(gradient, tape)
        self.update(factor)
        return loss

    def update(self, factor: float) -> None:
        """Update the trainable parameters with the stage's optimizer."""
        if self.updates is None:
            raise RuntimeError("no stage has begun; call begin first")
        self.updates.step(factor)
        self.network.done["updates"] += 1

    def work(self) -> Work:
        return Work(**{field: self.network.done[field] for field in Work.__struct_fields__})

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits, _ = self.network.forward(images.astype(self.dtype, copy=False))
        return logits

    def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
        return self.network.features(images.astype(self.dtype, copy=False), part)

    def predict_kept(self, features: NDArray[Any], part: Frozen) -> NDArray[np.float32]:
        logits, _ = self.network.forward(features, after=part)
        return logits

    def state(self) -> Iterator[Tensor]:
        """Yield copies, which later training does not change."""
        for v in self.network.variables:
            yield Tensor(v.name, v.array.copy(), v.part, v.block, v.role)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        variables = {v.name: v.array for v in self.network.variables}
        for name, array in arrays.items():
            if variables[name].shape != array.shape:
                raise ValueError(f"{name} has shape {list(variables[name].shape)}, not {list(array.shape)}")
        for name, array in arrays.items():
            variables[name][...] = array

    def slots(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        if self.updates is None:
            return {}
        return {name: {k: v.copy() for k, v in slots.items()} for name, slots in self.updates.slots.items()}

    def sync(self) -> None:
        """Do nothing: NumPy's operations are synchronous."""

    def compile_events(self) -> int:
        return 0

    def device_memory(self) -> int | None:
        return None

    def effective(self) -> Effective:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return Effective(
            device="cpu",
            device_name=platform.processor() or platform.machine(),
            precision={"float32": "fp32", "float64": "fp64"}[self.dtype.name],
            layout="channels-last",
            compile="none",
            threads=_blas_threads(),
            settings={"blas": f"{blas['name']} {blas['version']}"},
        )

    def layers(self) -> list[Layer]:
        size = self.case.image_size
        x = np.zeros((1, size, size, 3), self.dtype)
        found = []
        for layer in self.network.layers:
            x, _ = layer.forward(x, training=False)
            _, *spatial, features = x.shape
            parameters = sum(v.array.size for v in layer.variables if v.role not in BUFFERS)
            macs = math.prod(spatial) * sum(v.array.size for v in layer.variables if v.role == "weight")
            found.append(Layer(layer.name, type(layer).__name__, (features, *spatial), parameters, macs))
        return found

    def layer_work(self, batch_size: int) -> Iterator[LayerWork]:
        size = self.case.image_size
        return layer_work(self.network, np.zeros((batch_size, size, size, 3), self.dtype))

    def save_native(self, folder: str) -> str:
        write_npz({v.name: v.array for v in self.network.variables}, Path(folder) / NATIVE_FILE)
        return NATIVE_FILE

    def load_native(self, path: str) -> None:
        self.load(read_npz(path))


def _blas_threads() -> int:
    # OpenBLAS reads these variables when NumPy is imported, and does not exceed the affinity.
    usable = len(os.sched_getaffinity(0))
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return min(int(wanted), usable) if wanted else usable
