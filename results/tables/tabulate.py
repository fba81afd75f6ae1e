"""Pool records to one row per case version, machine, environment and status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import Refused
from results import statistics
from results.rules.pair_rules import pooled
from results.tables.columns import CASE_TYPES, METRICS, PROCESS_TYPES, frame_of
from results.tables.figures import MARKS

GROUP = ("protocol", "version", "machine", "environment", "device", "status")
"""Records are pooled only if they are equal in all these columns (V52)."""

POOLED = (
    "seed", "reason", "marks", "notes", "traits", "epoch_seconds", "epoch_joules", "epoch_val_accuracy",
    "energy_source", "test_images",
)  # fmt: skip
"""Columns besides the figures that may differ between the processes of a row."""

SHARED = [name for name in PROCESS_TYPES if name in CASE_TYPES and name not in METRICS and name not in POOLED]
"""Columns that are equal in all processes of a row."""


def table(frame: pd.DataFrame, target_accuracy: float | None = None) -> pd.DataFrame:
    """Aggregate the result of `load`, without the processes of comparisons.

    Times and memory are medians over processes with the interval of `statistics.median`. Accuracies are means over
    seeds with their t interval, after a median over the processes of each seed. `target_accuracy`, a fraction of
    validation accuracy, fills `time_to_accuracy_s` and `joules_to_accuracy` (medians over runs; a run that did not
    reach the target counts as infinite, and an infinite median is NaN) and `reached`. Rows that are not `ok` have
    reasons and no figures. A later record of a case replaces an interrupted one. Raises `Refused` for a target outside
    0 to 1.
    """
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise Refused(f"a target accuracy of {target_accuracy:g} is not a fraction; write 0.75 for 75 %")
    kept = _without_superseded(frame[frame["arm"].isna()])
    order = {name: place for place, name in enumerate(dict.fromkeys(frame["model"]))}
    # Plain arrays: selecting a group from a frame is a hundred times slower than from an array.
    columns = {name: kept[name].to_numpy() for name in (*POOLED, *METRICS) if name in kept}
    columns["test_images"] = kept["test_images"].to_numpy(dtype=np.float64, na_value=math.nan)
    groups = kept.groupby(list(GROUP), sort=False, dropna=False).indices.values()
    places = sorted(groups, key=lambda group: int(group[0]))
    shared = kept[SHARED].iloc[[group[0] for group in places]].to_dict("records")
    rows = [
        _row({str(key): cell for key, cell in one.items()}, {n: v[group] for n, v in columns.items()}, target_accuracy)
        for one, group in zip(shared, places, strict=True)
    ]
    whole = frame_of(rows, CASE_TYPES)
    place = whole["model"].map(order)
    whole = whole.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)
    whole.attrs.update(frame.attrs)
    return whole


def _without_superseded(frame: pd.DataFrame) -> pd.DataFrame:
    last = frame.groupby(["run", "key"])["offset"].transform("max")
    return frame[(frame["status"] != "interrupted") | (frame["offset"] == last)]


def _row(shared: Mapping[str, Any], group: Mapping[str, NDArray[Any]], target: float | None) -> dict[str, Any]:
    row, seeds = dict(shared), group["seed"]
    row["runs"] = len(seeds)
    row["seeds"] = len(np.unique(seeds))
    row["reason"] = "; ".join(dict.fromkeys(reason for reason in group["reason"] if reason))
    images = group["test_images"][~np.isnan(group["test_images"])]
    row["test_images"] = int(images.min()) if len(images) else pd.NA
    row["throughputs"] = []
    row["marks"] = _in_order(group["marks"], MARKS)
    row["notes"] = _in_order(group["notes"], ())
    row["energy_source"] = "; ".join(dict.fromkeys(filter(None, group["energy_source"])))
    row["traits"] = pooled(group["traits"])
    if row["status"] != "ok":
        return row
    row["throughputs"] = group["throughput"][~np.isnan(group["throughput"])].tolist()
    columns = {name: group[name] for name in METRICS if name in group}
    if target is not None:
        times = _spent_to(target, group["epoch_seconds"], group["epoch_val_accuracy"])
        columns["time_to_accuracy_s"] = times
        columns["joules_to_accuracy"] = _spent_to(target, group["epoch_joules"], group["epoch_val_accuracy"])
        row["target"], row["reached"] = target, int(np.isfinite(times).sum())
    for name, values in columns.items():
        row.update(_figure(name, values, seeds))
    row["accuracy_mde"] = statistics.detectable(row["accuracy"], int(images.min()) if len(images) else 0)
    return row


def _spent_to(target: float, spent: NDArray[Any], accuracies: NDArray[Any]) -> NDArray[np.float64]:
    """Return the seconds or joules of each run until its target; NaN for a run without them."""
    found = [
        statistics.time_to(target, own, reached) if len(own) else math.nan
        for own, reached in zip(spent, accuracies, strict=True)
    ]
    return np.array(found, dtype=np.float64)


def _figure(name: str, values: NDArray[np.float64], seeds: NDArray[np.int64]) -> dict[str, float]:
    metric = METRICS[name]
    by_seed = metric.replicate == "seed"
    figure = metric.summary(pd.Series(values).groupby(seeds).median().to_numpy() if by_seed else values)
    low, high = figure.low, figure.high
    if by_seed and metric.unit == "%":
        low, high = np.clip([low, high], 0.0, 1.0)
    return {name: figure.value, f"{name}_low": low, f"{name}_high": high}


def _in_order(lists: Iterable[list[str]], order: Iterable[str]) -> list[str]:
    found = dict.fromkeys(item for items in lists for item in items)
    return sorted(found, key=list(order).index) if order else list(found)
