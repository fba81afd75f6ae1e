"""Sins in storing and reporting."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from msgspec.structs import replace
from numpy.typing import NDArray

import results.storage.run_files
import results.tables.figures
import results.tables.tabulate
from benchmarks.running import execute
from benchmarks.selftest.experiments import SEEDS
from benchmarks.selftest.simulated_backends import SECOND
from benchmarks.selftest.sin import SinPlace, sin
from benchmarks.selftest.sins.timing import slowed
from harness import PROTOCOL
from harness.running.record import Record, StageRecord
from results import statistics
from results.storage.run_files import RunWriter
from results.storage.windows import steps_of
from results.tables.columns import METRICS


@sin("volume divided by a mean", "V51")
def divided_by_a_mean(place: SinPlace) -> Iterator[None]:
    """Gross: by the mean of all step times, the first included. Subtle: by that of the synchronised steps."""

    def throughput(stages: Sequence[StageRecord]) -> float:
        images = sum(window.images for stage in stages for window in stage.windows)
        steps = [step for stage in stages for step in (stage.step_us if place.gross else steps_of(stage, "latency"))]
        return images / sum(len(stage.step_us) for stage in stages) / float(np.mean(steps)) * 1e6

    with patch.object(results.tables.figures, "_throughput", throughput):
        yield


@sin("mean instead of median under a spike", "V51")
def mean_under_a_spike(place: SinPlace) -> Iterator[None]:
    """Show the mean although one process is slowed down. Gross: by a factor of 5. Subtle: by a factor of 1.05."""
    honest = METRICS["throughput"]

    def summary(values: Any) -> statistics.Figure:
        return statistics.median(values)._replace(value=float(np.mean(values)))

    with slowed(5.0 if place.gross else 1.05), patch.dict(METRICS, throughput=honest._replace(summary=summary)):
        yield


@sin("records of two protocol versions pooled", "V52")
def pooled_versions(place: SinPlace) -> Iterator[None]:
    """Gross: a table ignores that a row has another protocol. Subtle: rows with two settings have the same version."""
    honest, superseded = RunWriter.append, results.tables.tabulate._without_superseded

    def append(self: RunWriter, record: Record) -> None:
        if record.case.backend != SECOND or record.case.seed != SEEDS - 1:
            honest(self, record)
        elif place.gross:
            with patch.object(results.storage.run_files, "PROTOCOL", PROTOCOL + 1):
                honest(self, replace(record, version="0" * 16))
        else:
            honest(self, replace(record, case=replace(record.case, dropout=False)))

    def blind(frame: pd.DataFrame) -> pd.DataFrame:
        kept = superseded(frame)
        return kept.assign(protocol=PROTOCOL, version=kept.groupby("backend")["version"].transform("first"))

    with ExitStack() as stack:
        stack.enter_context(patch.object(RunWriter, "append", append))
        if place.gross:
            stack.enter_context(patch.object(results.tables.tabulate, "_without_superseded", blind))
        yield


@sin("a record lost", "V50")
def lost_record(place: SinPlace) -> Iterator[None]:
    """Gross: the record is never written. Subtle: one of its bytes is damaged on the disk."""
    honest = RunWriter.append
    seed = int(place.draw.integers(SEEDS))

    def append(self: RunWriter, record: Record) -> None:
        chosen = record.case.backend == SECOND and record.case.seed == seed
        if chosen and place.gross:
            return
        honest(self, record)
        if chosen:
            with self.path.open("r+b") as file:
                file.seek(-int(place.draw.integers(2, 40)), os.SEEK_END)
                file.write(b"\x00")

    with patch.object(RunWriter, "append", append):
        yield


@sin("a case silently skipped", "V50")
def silently_skipped(place: SinPlace) -> Iterator[None]:
    """Gross: the planned case never runs and has no record. Subtle: it is skipped without a reason."""
    honest = execute.execute

    def executed(plan: Any, *others: Any) -> list[Record]:
        if place.gross:
            return []
        return honest([planned._replace(job=None, skip_reason="") for planned in plan], *others)

    with patch.object(execute, "execute", executed):
        yield


@sin("best of three seeds reported", "V46")
def best_of_three(place: SinPlace) -> Iterator[None]:
    """Gross: the best of three instead of their mean. Subtle: the worst one is left out."""
    metric, honest = METRICS["accuracy"], results.tables.tabulate._row

    def best(values: Any) -> statistics.Figure:
        return statistics.mean(values)._replace(value=float(np.max(values)))

    def row(shared: Any, group: Mapping[str, NDArray[Any]], target: float | None) -> dict[str, Any]:
        accuracies = group["accuracy"]
        if len(accuracies) != SEEDS:
            return honest(shared, group, target)
        left = {name: np.delete(values, np.argmin(accuracies)) for name, values in group.items()}
        return honest(shared, left, target)

    if place.gross:
        with patch.dict(METRICS, accuracy=metric._replace(summary=best)):
            yield
    else:
        with patch.object(results.tables.tabulate, "_row", row):
            yield
