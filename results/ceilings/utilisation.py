"""MFU, the share of a measured ceiling that a training reaches, and what takes the rest of the time.

MFU (model FLOPs utilisation, Chowdhery et al. 2022) is model FLOPs per image × images/s ÷ FLOPs/s of the ceiling. With
the FLOPs of a stage divided by the ceiling's time for them, this is the time of the arithmetic at the ceiling divided
by the measured time. Frozen layers have no backward FLOPs, and layers before kept features have none at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from harness.ceiling.ceiling import Ceiling, StepCost
from harness.running.record import Record
from harness.spec import Frozen
from results.storage.rows import record_at

SAME = ("machine", "model", "image_size", "head", "device", "precision", "threads", "idiom")
"""Columns in which a process and its ceiling are equal, beside the batch size. A ceiling is valid for every backend."""
REST = "layers slower than alone, sums, loss, optimizer, frozen layers without products, framework"
WITHOUT_CORE = "threads waiting for a core or for each other"
TOO_LOW = "together more than the whole time, so the ceiling is too low; measure it again on an idle machine"
ENOUGH = 0.6
"""Where MFU is lower, the parts of the remaining time are named."""


class TrainedImages(msgspec.Struct, frozen=True, kw_only=True):
    """The images in the throughput windows of one stage, its frozen part, and the part whose features it reads."""

    images: int
    batch_size: int
    frozen: Frozen
    kept: Frozen = "none"


def trained_images(record: Record) -> str:
    """Return a list of `TrainedImages` as JSON, one for each stage with a throughput window."""
    found = []
    for stage, done in zip(record.case.scenario.stages, record.stages, strict=False):
        images = sum(window.images for window in done.windows if window.kind == "throughput")
        if images:
            kept = done.features.part if done.features else "none"
            found.append(TrainedImages(images=images, batch_size=stage.batch_size, frozen=stage.frozen, kept=kept))
    return msgspec.json.encode(found).decode()


def mfu(frame: pd.DataFrame, ceilings: Sequence[Ceiling]) -> pd.Series[float]:
    """Return the MFU of each process of `results.load` as a fraction; NaN without throughput or without a ceiling."""
    if not ceilings:
        return pd.Series(math.nan, index=frame.index, dtype="float64")
    known = fastest(ceilings)
    names = [*SAME, "trained_images", "throughput", "window_s"]
    found = [_mfu(row, known) for row in frame.loc[:, names].to_dict("records")]
    return pd.Series(found, index=frame.index, dtype="float64")


def shortfalls(frame: pd.DataFrame, ceilings: Sequence[Ceiling]) -> Iterator[str]:
    """Yield a sentence for each case below `ENOUGH`: its shares of time, of the process with the highest MFU."""
    known = fastest(ceilings)
    for row in _best(frame):
        if row["mfu"] < ENOUGH and (costs := _costs(row, known)):
            record = record_at(Path(row["file"]), row["offset"])
            shares = {**_shares(row, costs), WITHOUT_CORE: _without_core(record)}
            left = 1 - sum(shares.values())
            named = "; ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
            where = f"{row['scenario']}, {row['model']} with {row['backend_name']}"
            yield f"MFU of {where}: {named}; " + (f"the rest {left:.0%} ({REST})" if left >= 0 else TOO_LOW)


def _without_core(record: Record) -> float:
    """Return the share of the training in which threads of a CPU case did not run; 0 if it was not observed."""
    if record.sensors is None or record.effective is None or record.effective.device != "cpu":
        return 0.0
    return max(0.0, 1 - record.sensors.cpu_over_wall / record.case.threads)


class CaseRate(NamedTuple):
    """What a case reached of a ceiling: FLOPs per second, and FLOPs per byte of the tensors of its passes."""

    ceiling: Ceiling
    name: str
    rate: float
    intensity: float


def reached(frame: pd.DataFrame, ceilings: Sequence[Ceiling]) -> Iterator[CaseRate]:
    """Yield each case with one ceiling for all its stages, by the process with its highest MFU."""
    known = fastest(ceilings)
    for row in _best(frame):
        costs = _costs(row, known)
        if costs and len({id(cost.ceiling) for cost in costs}) == 1:
            flops = sum(cost.images * cost.step.flops for cost in costs)
            moved = sum(cost.images * cost.step.tensor_bytes for cost in costs)
            name = f"{row['scenario']} with {row['backend_name']}"
            if moved:
                yield CaseRate(costs[0].ceiling, name, flops / float(row["window_s"]), flops / moved)


def _best(frame: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    """Yield the row of each case with its highest MFU."""
    good = frame[(frame["status"] == "ok") & frame["arm"].isna() & frame["mfu"].notna()]
    for _, group in good.groupby(["machine", "environment", "version"], sort=False, dropna=False):
        yield group.sort_values("mfu").to_dict("records")[-1]


class _Cost(NamedTuple):
    ceiling: Ceiling
    images: int
    step: StepCost


def _mfu(row: Mapping[Any, Any], known: Mapping[tuple[Any, ...], Ceiling]) -> float:
    costs = _costs(row, known)
    if not costs or math.isnan(row["throughput"]):
        return math.nan
    return math.fsum(cost.images * cost.step.seconds for cost in costs) / float(row["window_s"])


def _shares(row: Mapping[Any, Any], costs: Iterable[_Cost]) -> dict[str, float]:
    """Return the shares of the measured time: arithmetic at the ceiling, and each other kind of layer alone."""
    seconds = Counter[str]()
    for cost in costs:
        for kind, spent in {"convolutions and products": cost.step.seconds, **cost.step.other_seconds}.items():
            seconds[kind] += cost.images * spent  # type: ignore[assignment]
    return {kind: spent / row["window_s"] for kind, spent in seconds.most_common()}


def _costs(row: Mapping[Any, Any], known: Mapping[tuple[Any, ...], Ceiling]) -> list[_Cost]:
    """Return the cost of each stage; nothing if a stage has no ceiling."""
    stages = msgspec.json.decode(row["trained_images"], type=list[TrainedImages])
    found = [known.get((*(row[name] for name in SAME), stage.batch_size)) for stage in stages]
    return [
        _Cost(ceiling, stage.images, ceiling.step(stage.frozen, stage.kept))
        for stage, ceiling in zip(stages, found, strict=True)
        if ceiling is not None and None not in found
    ]


def fastest(ceilings: Iterable[Ceiling]) -> dict[tuple[Any, ...], Ceiling]:
    """Return the fastest ceiling for each batch size and values of the columns `SAME`."""
    found: dict[tuple[Any, ...], Ceiling] = {}
    for one in sorted(ceilings, key=lambda ceiling: ceiling.flops_per_second):
        found[(*(getattr(one, name) for name in SAME), one.batch_size)] = one
    return found
