"""The data that `show` prints. These functions run in a worker, because they open a session or read pixels."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.datasets.contact_sheet import sheet
from harness.contract import BUFFERS, Layer, Session, Tensor
from harness.data.checkpoint import read_checkpoint
from harness.errors import Refused, unknown
from harness.running.opening import find_model_for
from harness.spec import Case, Stage

CLASSES = ("class 0", "class 1")
"""The classes of the head in `show`."""


class Trainable(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that one stage of a scenario trains."""

    scenario: str
    stage: int
    parameters: int
    share: float
    blocks: str


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """The layers and parameters of a model."""

    image_size: int
    layers: tuple[Layer, ...]
    backbone: int
    head: int
    buffers: int
    macs: int
    load: str
    trainable: tuple[Trainable, ...]


class TensorView(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    part: str
    mean: float
    std: float
    low: float
    high: float
    values: str


def view_model(cases: list[Case], checkpoint: str | None, plugins: list[str]) -> ModelView:
    """Return the layers and parameters of the cases' model, and what each scenario trains."""
    session, load = _open(cases[0], checkpoint, plugins)
    tensors = list(session.state())
    counted = {"backbone": 0, "head": 0, "buffers": 0}
    for tensor in tensors:
        counted["buffers" if tensor.role in BUFFERS else tensor.part] += tensor.array.size
    layers = tuple(session.layers())
    return ModelView(
        image_size=cases[0].image_size,
        layers=layers,
        **counted,
        macs=sum(layer.macs for layer in layers),
        load=load,
        trainable=tuple(
            _trainable(tensors, case.scenario.name, number, stage)
            for case in cases
            for number, stage in enumerate(case.scenario.stages, 1)
        ),
    )


def view_tensor(case: Case, checkpoint: str | None, plugins: list[str], tensor: str) -> TensorView:
    """Return the values of one tensor. Raises `Refused` with the nearest names."""
    session, _ = _open(case, checkpoint, plugins)
    found = {t.name: t for t in session.state()}
    if tensor not in found:
        raise Refused(unknown("tensor", tensor, found))
    array = found[tensor].array
    return TensorView(
        name=tensor,
        shape=array.shape,
        dtype=str(array.dtype),
        role=found[tensor].role,
        part=found[tensor].part,
        mean=float(array.mean()),
        std=float(array.std()),
        low=float(array.min()),
        high=float(array.max()),
        values=np.array2string(array, threshold=200, precision=6),
    )


def contact_sheet(dataset: str, path: str, case: Case) -> None:
    """Write the input images of a network, from a prepared dataset."""
    sheet(Path(dataset), Path(path), augmentations=case.augment, seed=case.seed)


def _open(case: Case, checkpoint: str | None, plugins: list[str]) -> tuple[Session, str]:
    found = find_model_for(case, plugins, CLASSES, read_checkpoint(checkpoint) if checkpoint else None)
    session = found.open(case)
    # A given checkpoint is loaded in every scenario; without one every scenario starts from random values.
    scenario = replace(case.scenario, start="checkpoint" if checkpoint else "random")
    _, report = found.start(session, replace(case, scenario=scenario))
    return session, report.sentence() if report else ""


def _trainable(tensors: list[Tensor], scenario: str, number: int, stage: Stage) -> Trainable:
    parameters = [t for t in tensors if t.role not in BUFFERS]
    free = sum(t.array.size for t in parameters if not stage.is_frozen(t.part, t.block))
    blocks = sorted({t.block for t in parameters if t.part == "backbone"})
    fixed = [block for block in blocks if stage.is_frozen("backbone", block)]
    return Trainable(
        scenario=scenario,
        stage=number,
        parameters=int(free),
        share=free / max(1, sum(t.array.size for t in parameters)),
        blocks=f"{len(fixed)} of {len(blocks)}",
    )
