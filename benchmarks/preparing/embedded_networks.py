"""Networks that are pretrained on the embedded source task, and pretraining.

Pretraining gives different networks on different processors. So the networks of the default suite were made once and
are part of the package: float16 safetensors with their digest, recipe and origin, read as float32.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TypeVar

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.scenarios import PRETRAINING, PRETRAINING_AUGMENT
from benchmarks.datasets.cache import cache_folder, made_once
from harness import PROTOCOL
from harness.data.augment import parse_augment
from harness.data.checkpoint import read_checkpoint, refuse_not_finite, write_checkpoint
from harness.entry import RUN_CASE
from harness.errors import Declined
from harness.process.ask import ask
from harness.process.launch import Event
from harness.process.machine import usable_cores
from harness.running.initial_weights import COUNTER
from harness.running.record import Record
from harness.running.saved_model import NEUTRAL
from harness.spec import Case, Job

SHIPPED = Path(__file__).parents[1] / "networks"
"""The networks of the package, one file per model."""
EVALUATED = 200
"""Training images to evaluate after each epoch of pretraining; the metrics are not reported."""
SourceData = Callable[[], tuple[str, str]]
"""Prepares the embedded source task; returns its folder and SHA-256."""


def embedded_network(
    model: str, catalogue: Catalogue, source_data: SourceData, on_event: Callable[[Event], None]
) -> Path:
    """Return the network of the package; if there is none, pretrain one and cache it.

    Raises `Declined` if no installed backend can pretrain the model.
    """
    shipped = SHIPPED / f"{model}.safetensors"
    if shipped.is_file():
        return shipped

    def cached(job: Job) -> Path:
        digest = hashlib.sha256(msgspec.json.encode([PROTOCOL, job.case])).hexdigest()[:16]
        target = cache_folder() / "checkpoints" / f"{model}-embedded-{digest}.safetensors"
        return made_once(target, partial(_pretrain, job, on_event))

    return _in_first_backend(model, catalogue, source_data, cached)


def rebuild(
    model: str, catalogue: Catalogue, source_data: SourceData, on_event: Callable[[Event], None], target: Path
) -> None:
    """Pretrain a model again and write it in the format of the package's networks.

    Raises `Declined` if no installed backend can pretrain it, `Refused` if its values do not fit into float16.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / NEUTRAL
        _in_first_backend(model, catalogue, source_data, lambda job: _pretrain(job, on_event, path))
        ask(write_half, {"path": str(path), "target": str(target.resolve()), "model": model}, NoneType)


def write_half(path: str, target: str, model: str) -> None:
    """Convert a neutral checkpoint to float16; runs in a worker."""
    meta, arrays = read_checkpoint(path)
    with np.errstate(over="ignore"):  # values that overflow become infinite and are refused
        # The batch counters have no effect, because the momentum is given.
        halves = {name: array.astype(np.float16) for name, array in arrays.items() if not name.endswith(COUNTER)}
    refuse_not_finite(path, halves)
    origin = f"pretrained on the embedded source task by `prepare --rebuild {model}`"
    facts = {name: value for name, value in asdict(replace(meta, origin=origin)).items() if name != "sha256"}
    write_checkpoint(target, halves, **facts)


T = TypeVar("T")


def _in_first_backend(model: str, catalogue: Catalogue, source_data: SourceData, make: Callable[[Job], T]) -> T:
    folder, sha256 = source_data()
    reason = Declined(f"no backend can pretrain {model}")
    for backend in catalogue.offering(model):
        case = Case(
            backend=backend,
            engine=catalogue.engine(backend),
            model=model,
            scenario=PRETRAINING.get(model, PRETRAINING["*"]),
            dataset="embedded-source",
            dataset_sha256=sha256,
            image_size=64,
            augment=parse_augment(PRETRAINING_AUGMENT),
            dropout=False,
        )
        try:
            return make(Job(case=case, dataset_path=folder, plugins=catalogue.plugins, train_sample=EVALUATED))
        except Declined as error:
            reason = error
    raise reason


def _pretrain(job: Job, on_event: Callable[[Event], None], target: Path) -> None:
    case = replace(job.case, threads=len(usable_cores()))
    with tempfile.TemporaryDirectory() as scratch:
        record = ask(
            RUN_CASE,
            {"job": replace(job, case=case, save_model=f"{scratch}/kept")},
            Record,
            engine=case.engine,
            on_event=lambda event: on_event({"pretraining": case.model, **event}),
        )
        shutil.move(Path(record.artefacts["model"]) / NEUTRAL, target)
