"""The mistakes, in a gross and a subtle form. Each is committed on several devices only, in the worker of a backend."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from msgspec.structs import replace

from benchmarks.selftest.sin import SinPlace
from harness import PREFIX
from harness.certifying.questions import STEPS
from harness.contract import Model, Session
from harness.data.feed import Batch, Feed
from harness.spec import Case, Stage


class DeviceMistake(NamedTuple):
    """A mistake, and `plant(backend, place)`, which commits it in the module of a backend while it is open."""

    name: str
    plant: Callable[[ModuleType, SinPlace], AbstractContextManager[None]]


def statistics_of_each_device(backend: ModuleType, place: SinPlace) -> AbstractContextManager[None]:
    """Gross: batch norm uses the statistics of each device. Subtle: only the running ones are of the first device."""
    kind = backend.__name__.rpartition(".")[2]
    return {"pytorch": _torch_statistics, "keras3": _keras_statistics}[kind](backend, place)


@contextmanager
def _torch_statistics(backend: ModuleType, place: SinPlace) -> Iterator[None]:
    if place.gross:
        real_open = backend.open_session

        def open_session(case: Case, *rest: Any) -> Session:
            found: Session = real_open(replace(case, norm_scope="device") if case.devices > 1 else case, *rest)
            return found

        with patch.object(backend, "open_session", open_session):
            yield
        return
    norm = importlib.import_module(f"{PREFIX}backends.pytorch.parallel.norm")
    real = norm._forward

    def forward(layer: Any, devices: int, inputs: Any) -> Any:
        kept = layer.running_mean.clone(), layer.running_var.clone(), layer.num_batches_tracked.clone()
        outputs = real(layer, devices, inputs)
        if layer.training:
            for tensor, value in zip(
                (layer.running_mean, layer.running_var, layer.num_batches_tracked), kept, strict=True
            ):
                tensor.copy_(value)
            own = inputs.detach()
            axes = norm._axes(own)
            norm._move_statistics(layer, own.mean(axes), own.var(axes))
        return outputs

    with patch.object(norm, "_forward", forward):
        yield


@contextmanager
def _keras_statistics(backend: ModuleType, place: SinPlace) -> Iterator[None]:
    layers = importlib.import_module(f"{PREFIX}backends.keras3.layers")
    kind, ops = layers.BatchNormalization, layers.ops
    real = kind.call

    def of_one_device(layer: Any, rows: Any) -> Any:
        with patch.object(layers.devices, "several", lambda: None):
            return real(layer, rows, True)

    def call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        shared = layers.devices.several()  # on TensorFlow, where a call has the rows of one device
        devices = shared.replicas() if shared else layers.devices.data_parallel()
        if devices == 1 or not (training and layer.batch_statistics):
            return real(layer, inputs, training, mask)
        first, *others = [inputs] if shared else ops.split(inputs, devices, axis=0)
        if place.gross:
            outputs = [of_one_device(layer, first)]
            outputs += [layer._normalise(one, *ops.moments(one, layer._reduction_axes)) for one in others]
            return ops.concatenate(outputs, axis=0)
        running = layer.moving_mean, layer.moving_variance
        kept = [ops.copy(variable) for variable in running]
        outputs = real(layer, inputs, training, mask)
        for variable, value in zip(running, kept, strict=True):
            variable.assign(value)
        of_one_device(layer, first)
        return outputs

    with patch.object(kind, "call", call):
        yield


@contextmanager
def _changed_training(backend: ModuleType, change: Callable[..., None]) -> Iterator[None]:
    """Call `change(train, devices, stage, feed, clock)` in place of `train` of every session on several devices."""
    real = backend.open_session

    def open_session(case: Case, model: Model, classes: int) -> Session:
        session: Any = real(case, model, classes)
        if case.devices > 1:
            session.train = partial(change, session.train, case.devices)
        found: Session = session
        return found

    with patch.object(backend, "open_session", open_session):
        yield


class _ChangedFeed:
    """A feed whose batches pass through `change(number of the batch, batch)`."""

    def __init__(self, feed: Feed, change: Callable[[int, Batch], Batch]) -> None:
        self._feed, self._change, self._number = feed, change, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        changed = []
        for batch in self._feed.epoch(epoch):
            changed.append(self._change(self._number, batch))
            self._number += 1
        return iter(changed)


def repeated_sample(backend: ModuleType, place: SinPlace) -> AbstractContextManager[None]:
    """Gross: every device gets the rows of the first one. Subtle: in one step, the second one gets one row of them."""
    chosen = int(place.draw.integers(STEPS))

    def train(real: Callable[..., None], devices: int, stage: Stage, feed: Feed, clock: Any) -> None:
        def change(number: int, batch: Batch) -> Batch:
            rows = np.arange(len(batch.ids))
            share = len(rows) // devices
            if place.gross:
                rows %= share
            elif number == chosen:
                rows[share] = 0
            return Batch(*(array[rows] for array in batch))

        real(stage, _ChangedFeed(feed, change), clock)

    return _changed_training(backend, train)


def scaled_rate(backend: ModuleType, place: SinPlace) -> AbstractContextManager[None]:
    """Gross: the learning rate is multiplied by the number of devices. Subtle: by its square root."""

    def train(real: Callable[..., None], devices: int, stage: Stage, feed: Feed, clock: Any) -> None:
        factor = devices if place.gross else math.sqrt(devices)
        real(replace(stage, head_lr=factor * stage.head_lr, backbone_lr=factor * stage.backbone_lr), feed, clock)

    return _changed_training(backend, train)


MISTAKES = (
    DeviceMistake("statistics of each device instead of the whole batch", statistics_of_each_device),
    DeviceMistake("a sample that two devices train on", repeated_sample),
    DeviceMistake("a learning rate scaled with the number of devices", scaled_rate),
)
