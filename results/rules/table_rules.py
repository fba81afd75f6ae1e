"""A table followed back to the raw rows it was made of: figures worked out again, by the shortest way there is.

This is on purpose no use of `results.tables.figures` or `results.statistics`: it has to notice when they go wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from types import MappingProxyType
from typing import Any

import pandas as pd
from msgspec.structs import replace

from harness.running.record import Record
from results.rules.time_rules import voided
from results.storage.rows import record_at

Row = Mapping[Hashable, Any]
Rule = Callable[[Row, Sequence[Record]], Iterator[str]]
RELATIVE = 1e-9
OWN = ("protocol", "version", "machine", "environment", "device", "status")
"""What the rows of a table are told apart by (V52)."""


THROUGHPUT = ("throughput", "throughput_low", "throughput_high")


def v46_every_seed_counts(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """Accuracy is the mean over all seeds, not that of the best."""
    seeds: dict[int, list[float]] = {}
    for record in records:
        quality = record.test or record.val
        if quality is not None:
            seeds.setdefault(record.case.seed, []).append(quality.accuracy)
    if not seeds:
        return
    expected = fmean(median(own) for own in seeds.values())
    if row["seeds"] != len(seeds):
        yield f"the accuracy is that of {row['seeds']} seeds, and there are {len(seeds)}"
    if not _same(row["accuracy"], expected):
        yield f"the accuracy is {row['accuracy']:.4f}, the mean over the seeds {expected:.4f}"


def v48_processes_are_the_replicates(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """The range of a throughput is one of processes: it ends where one of them stands."""
    rates = _rates(records)
    for end in ("low", "high"):
        bound = row[f"throughput_{end}"]
        if not pd.isna(bound) and not any(_same(bound, rate) for rate in rates):
            yield f"the range of images/s ends at {bound:.6g}, which is no process's figure"


def v51_throughput_is_one_division(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """Throughput is the median over processes of images ÷ seconds of the same windows."""
    if pd.isna(row["throughput"]):
        return
    expected = median(_rates(records) or [math.nan])
    if not _same(row["throughput"], expected):
        yield f"{row['throughput']:.6g} images/s, but the median of images ÷ seconds is {expected:.6g}"


def v34_compiling_is_no_training(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """Seconds of training are the median over processes of all epochs without what the first steps took too long."""
    trained = [seconds for record in records if math.isfinite(seconds := _trained(record))]
    if trained and not _same(row["train_s"], median(trained)):
        yield f"{row['train_s']:.6g} s of training, but without compiling the median is {median(trained):.6g} s"


def v50_no_record_is_left_out(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """A row stands for every record there is of it."""
    if row["runs"] < len(records):
        yield f"{row['runs']} runs, and there are {len(records)} records"


def v52_one_version(row: Row, records: Sequence[Record]) -> Iterator[str]:
    """Records that make one row are of one protocol and version, which means one case but for the seed."""
    if row["runs"] > len(records):
        yield f"{row['runs']} runs are pooled, of which {len(records)} are of its protocol, version and place"
    cases = {(record.version, _but_for_seed(record)) for record in records}
    if len(cases) > 1:
        yield f"{len(cases)} different cases are pooled as one"


FOLLOW_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "V34": v34_compiling_is_no_training,
        "V46": v46_every_seed_counts,
        "V48": v48_processes_are_the_replicates,
        "V50": v50_no_record_is_left_out,
        "V51": v51_throughput_is_one_division,
        "V52": v52_one_version,
    }
)


def unfollowed(table: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """A sentence for each figure of `results.table` that cannot be followed to the rows of `results.load`."""
    sources = frame[(frame["status"] == "ok") & frame["arm"].isna()]
    found = []
    asked = [*OWN, "model", "backend_name", "scenario", "runs", "seeds", "accuracy", "train_s", *THROUGHPUT]
    for row in table.loc[table["status"] == "ok", asked].to_dict("records"):
        mine = sources[_matches(sources, row)]
        records = [record_at(Path(file), offset) for file, offset in zip(mine["file"], mine["offset"], strict=True)]
        where = f"{row['model']} {row['backend_name']} {row['scenario']}"
        for rule, speaks in FOLLOW_RULES.items():
            found += [f"{where}: {said} ({rule})" for said in speaks(row, records)]
    return found


def _matches(frame: pd.DataFrame, row: Row) -> pd.Series[bool]:
    found = pd.Series(data=True, index=frame.index)
    for name in OWN:
        found &= frame[name].isna() if pd.isna(row[name]) else frame[name] == row[name]
    return found


def _rates(records: Sequence[Record]) -> list[float]:
    """Images ÷ seconds of each process whose time is not void."""
    rates = []
    for record in records:
        windows = [w for stage in record.stages for w in stage.windows if w.kind == "throughput"]
        if (seconds := sum(window.seconds for window in windows)) and not voided(record):
            rates.append(sum(window.images for window in windows) / seconds)
    return rates


def _trained(record: Record) -> float:
    """Seconds of all epochs, less what the first step of each stage took beyond the mean one of its window."""
    found = [epoch.seconds for stage in record.stages for epoch in stage.epochs]
    for stage in record.stages:
        spent = {window.kind: (window.seconds, window.steps) for window in stage.windows}
        seconds, steps = spent.get("throughput", (math.inf, 1))
        found.append(-max(0.0, spent.get("first", (0.0, 1))[0] - seconds / steps))
    return sum(found) if any(stage.epochs for stage in record.stages) else math.nan


def _same(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=RELATIVE) or (math.isnan(found) and math.isnan(expected))


def _but_for_seed(record: Record) -> str:
    return repr(replace(record.case, seed=0))
