"""One process in the terms of experiment trackers: settings, curves, figures, tags."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from harness.running.record import Record
from harness.spec import Case
from results.storage.rows import record_at
from results.storage.windows import training_seconds
from results.tables.columns import METRICS, Row

Setting = str | bool | int | float
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
"""Fields of `harness.running.record.Epoch`."""


class CurvePoint(NamedTuple):
    """The value of a curve after epoch `step` (from 1). `at` is the start in seconds since 1970 plus training time."""

    step: int
    at: float
    value: float


class Training(NamedTuple):
    """One process. `identity` is 16 hex digits of the digest of its record."""

    identity: str
    name: str
    status: str
    reason: str
    began: float
    seconds: float
    settings: dict[str, Setting]
    curves: dict[str, tuple[CurvePoint, ...]]
    figures: dict[str, float]
    tags: dict[str, str]


def trainings(frame: pd.DataFrame) -> Iterator[Training]:
    """Yield the training of each row of a `results.load`, from its raw record."""
    for row in frame.to_dict("records"):
        record = record_at(Path(row["file"]), row["offset"])
        began = _began(record.started)
        yield Training(
            identity=hashlib.sha256(msgspec.json.encode(record)).hexdigest()[:16],
            name=record.case.label,
            status=row["status"],
            reason=row["reason"],
            began=began,
            seconds=record.total_s,
            settings=settings(record.case),
            curves=_curves(record, began),
            figures={name: row[name] for name in METRICS if name in row and math.isfinite(row[name])},
            tags=_tags(row),
        )


def settings(case: Case) -> dict[str, Setting]:
    """Flatten a case: nested fields have dotted names, stages count from 1, None is omitted.

    >>> from harness.spec import Scenario, Stage
    >>> stage = Stage(epochs=2, head_lr=0.1, backbone_lr=0.01)
    >>> full = Scenario(name="full", explanation="", stages=(stage,))
    >>> case = Case(backend="b", model="m", scenario=full, dataset="d", dataset_sha256="", image_size=8)
    >>> flat = settings(case)
    >>> flat["model"], flat["scenario.name"], flat["scenario.stages.1.head_lr"], "engine" in flat
    ('m', 'full', 0.1, False)
    """
    return dict(_flat(msgspec.to_builtins(case), ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Setting]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value, 1):
            yield from _flat(inner, f"{name}.{number}")
    elif value is not None:
        yield name, value


def _curves(record: Record, began: float) -> dict[str, tuple[CurvePoint, ...]]:
    epochs = [epoch for stage in record.stages for epoch in stage.epochs]
    ends = accumulate((second for stage in record.stages for second in training_seconds(stage)), initial=began)
    timed = list(enumerate(zip(islice(ends, 1, None), epochs, strict=True), 1))
    if not timed:
        return {}
    measured = [name for name in CURVES if getattr(epochs[0], name) is not None]
    return {name: tuple(CurvePoint(step, at, getattr(epoch, name)) for step, (at, epoch) in timed) for name in measured}


def _tags(row: Row) -> dict[str, str]:
    names = ("status", "reason", "run", "key", "version", "protocol", "machine", "environment", "device_name",
             "comparison", "arm")  # fmt: skip
    tags = {name: str(row[name]) for name in names if not pd.isna(row[name]) and str(row[name])}
    return {**tags, "marks": "; ".join(row["marks"]), **{f"version.{k}": v for k, v in row["versions"].items()}}


def _began(started: str) -> float:
    """Return the start in seconds since 1970; 0 if it is unknown."""
    if not started:
        return 0.0
    moment = datetime.fromisoformat(started)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
