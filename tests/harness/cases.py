"""Cases of the reference backend, small enough to run in a second, and a way to run them in this process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from backends.reference import MODELS, open_session
from benchmarks.datasets.writing import PreparedDataset
from harness.data.checkpoint import NORMALISATIONS, write_checkpoint
from harness.running.initial_weights import random_arrays
from harness.running.record import Record
from harness.running.run import run_case
from harness.spec import Case, Job, Scenario, Stage

STAGE = Stage(epochs=2, head_lr=0.05, backbone_lr=0.05, batch_size=8)


def scenario(*stages: Stage, **fields: Any) -> Scenario:
    return Scenario(name="own", explanation="of a test", stages=stages or (STAGE,), **fields)


def tiny_case(data: PreparedDataset, **fields: Any) -> Case:
    """A case of `tiny-cnn` at 32 px that starts at random unless told otherwise."""
    wanted: dict[str, Any] = {"scenario": scenario(start="random"), **fields}
    return Case(
        backend="reference", model="tiny-cnn", dataset=data.meta.name, dataset_sha256=data.meta.sha256, image_size=32,
        **wanted,
    )  # fmt: skip


def run_here(
    data: PreparedDataset, case: Case, folder: Path | None = None, events: list[Any] | None = None, **job: Any
) -> Record:
    """`run_case` without a process of its own; the record as a reader gets it."""
    task = Job(case=case, dataset_path=str(data.folder), **job)
    with tempfile.TemporaryDirectory() as scratch:
        place = str(folder or scratch)
        found = run_case(task, place, time.time(), (events if events is not None else []).append)
    return msgspec.json.decode(msgspec.json.encode(found), type=Record)


def tiny_arrays(seed: int = 7) -> dict[str, np.ndarray]:
    """A backbone and a source classifier of four classes, as a checkpoint has them."""
    data_free = Case(
        backend="reference", model="tiny-cnn", scenario=scenario(), dataset="", dataset_sha256="", image_size=32
    )
    session = open_session(data_free, MODELS["tiny-cnn"], 4)
    arrays = random_arrays(session.state(), "kaiming-normal-fan-out", seed)
    classifier = {name.replace("head.", "classifier."): arrays.pop(name) for name in list(arrays) if "head." in name}
    return {**arrays, **classifier}


def write_tiny(path: Path, arrays: dict[str, np.ndarray] | None = None, **facts: Any) -> Path:
    """A neutral checkpoint of `tiny-cnn`."""
    known = {"model": "tiny-cnn", "normalisation": NORMALISATIONS["zero-to-one"], "origin": "a test", **facts}
    write_checkpoint(path, tiny_arrays() if arrays is None else arrays, **known)
    return path
