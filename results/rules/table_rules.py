"""Rules about a table: they compute its figures again from the raw rows.

This module does not use `results.tables.figures` or `results.statistics`, so it detects their errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple, TypeVar

import pandas as pd
from msgspec.structs import replace

from harness.rules import Breach, Finding, ask, rule
from harness.running.record import Record
from results.rules.time_rules import voided
from results.storage.rows import record_at

RELATIVE = 1e-9


class Origin(NamedTuple):
    """The columns that identify a row of a table and its records (V52)."""

    protocol: int
    version: str
    machine: str
    environment: str
    device: str
    status: str


class CheckedRow(NamedTuple):
    """The columns of a row of a table that the rules compute again. Figures are NaN without one."""

    model: str
    backend_name: str
    scenario: str
    runs: int
    seeds: int
    accuracy: float
    train_s: float
    throughput: float
    throughput_low: float
    throughput_high: float


@rule("V46", "table")
def left_out_seeds(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """The accuracy is not the mean over all seeds; it may be that of the best seed."""
    seeds: dict[int, list[float]] = {}
    for record in records:
        quality = record.test or record.val
        if quality is not None:
            seeds.setdefault(record.case.seed, []).append(quality.accuracy)
    if not seeds:
        return
    expected = fmean(median(own) for own in seeds.values())
    if row.seeds != len(seeds):
        yield f"the accuracy is of {row.seeds} seeds, but the records have {len(seeds)}"
    if not _same(row.accuracy, expected):
        yield f"the accuracy is {row.accuracy:.4f}, but the mean over seeds is {expected:.4f}"


@rule("V48", "table")
def range_not_of_processes(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """A bound of the throughput's range is not the throughput of any process."""
    rates = _rates(records)
    for bound in (row.throughput_low, row.throughput_high):
        if not math.isnan(bound) and not any(_same(bound, rate) for rate in rates):
            yield f"the range of images/s ends at {bound:.6g}, which is not the throughput of any process"


@rule("V51", "table")
def throughput_not_one_division(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """The throughput is not the median over processes of images ÷ seconds."""
    if math.isnan(row.throughput):
        return
    expected = median(_rates(records) or [math.nan])
    if not _same(row.throughput, expected):
        yield f"{row.throughput:.6g} images/s, but the median of images ÷ seconds is {expected:.6g}"


@rule("V34", "table")
def training_with_compiling(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """The training time is not the median over processes, or includes compilation."""
    trained = [seconds for record in records if math.isfinite(seconds := _trained(record))]
    if trained and not _same(row.train_s, median(trained)):
        yield f"{row.train_s:.6g} s of training, but the median without compilation is {median(trained):.6g} s"


@rule("V50", "table")
def left_out_records(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """A row of the table leaves out a record."""
    if row.runs < len(records):
        yield f"{row.runs} runs, but there are {len(records)} records"


@rule("V52", "table")
def several_versions(row: CheckedRow, records: Sequence[Record]) -> Iterator[Finding]:
    """A row pools records of several protocols, or of cases that differ in more than the seed."""
    if row.runs > len(records):
        yield f"{row.runs} runs are pooled, but only {len(records)} have the row's protocol, version and machine"
    cases = {(record.version, _but_for_seed(record)) for record in records}
    if len(cases) > 1:
        yield f"{len(cases)} different cases are pooled"


TABLE_RULES = (
    training_with_compiling, left_out_seeds, range_not_of_processes, left_out_records, throughput_not_one_division,
    several_versions,
)  # fmt: skip


def unfollowed(table: pd.DataFrame, frame: pd.DataFrame) -> list[Breach]:
    """Return a breach for each figure of `results.table` that does not follow from the rows of `results.load`."""
    sources = frame[(frame["status"] == "ok") & frame["arm"].isna()]
    good = table[table["status"] == "ok"]
    found = []
    for row, origin in zip(_rows(good, CheckedRow), _rows(good, Origin), strict=True):
        rows = sources[_matches(sources, origin)]
        records = [record_at(Path(file), offset) for file, offset in zip(rows["file"], rows["offset"], strict=True)]
        where = f"{row.model} {row.backend_name} {row.scenario}"
        found += [breach._replace(where=where) for breach in ask(TABLE_RULES, row, records)]
    return found


T = TypeVar("T", CheckedRow, Origin)


def _rows(table: pd.DataFrame, kind: type[T]) -> Iterator[T]:
    return map(kind._make, table[list(kind._fields)].itertuples(index=False))


def _matches(frame: pd.DataFrame, origin: Origin) -> pd.Series[bool]:
    found = pd.Series(data=True, index=frame.index)
    for name, value in zip(origin._fields, origin, strict=True):
        found &= frame[name].isin([value])  # equal, or missing on both sides
    return found


def _rates(records: Sequence[Record]) -> list[float]:
    rates = []
    for record in records:
        windows = [w for stage in record.stages for w in stage.windows if w.kind == "throughput"]
        if (seconds := math.fsum(window.seconds for window in windows)) and not voided(record):
            rates.append(sum(window.images for window in windows) / seconds)
    return rates


def _trained(record: Record) -> float:
    """Return the seconds of all epochs and kept features, without what a first step takes beyond a mean step."""
    found = [epoch.seconds for stage in record.stages for epoch in stage.epochs]
    found += [stage.features.seconds for stage in record.stages if stage.features]
    for stage in record.stages:
        spent = {window.kind: (window.seconds, window.steps) for window in stage.windows}
        seconds, steps = spent.get("throughput", (math.inf, 1))
        found.append(-max(0.0, spent.get("first", (0.0, 1))[0] - seconds / steps))
    return sum(found) if any(stage.epochs for stage in record.stages) else math.nan


def _same(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=RELATIVE) or (math.isnan(found) and math.isnan(expected))


def _but_for_seed(record: Record) -> str:
    return repr(replace(record.case, seed=0))
