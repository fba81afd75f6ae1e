"""Records to one row per version of a case and per status. Two versions, machines or environments never meet."""

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
from results.tables.columns import CASE_TYPES, METRICS, PROCESS_TYPES
from results.tables.figures import MARKS

GROUP = ("protocol", "version", "machine", "environment", "device", "status")
"""Records are pooled only if they agree in all of these (V52)."""

POOLED = ("seed", "reason", "marks", "notes", "traits", "epoch_seconds", "epoch_val_accuracy", "test_images")
"""Columns in which the processes of a row differ, beside the figures."""

SHARED = [name for name in PROCESS_TYPES if name in CASE_TYPES and name not in METRICS and name not in POOLED]
"""Columns of a process that are the same in its row."""


def table(frame: pd.DataFrame, target: float | None = None) -> pd.DataFrame:
    """Aggregate what `load` returned, but for the processes that were an arm of a comparison.

    Times and memory are medians over the `runs` processes with the interval of `statistics.median`; accuracies are
    means over the `seeds` seeds with their t interval (processes that repeat a seed give one median first), and
    `accuracy_mde` is the smallest effect that the test set could show. `target` (a fraction of validation accuracy)
    fills `time_to_accuracy_s`: the median over the runs, those that never got there counting as later than all others
    (NaN once they decide), and `reached`, how many got there. Rows that are not `ok` carry their reasons and no figure.
    `throughputs` are those of the processes, where they are not void, as a list of floats.
    An interrupted record gives way to a later one of its case. Raises `Refused` for a target outside 0 to 1.
    """
    if target is not None and not 0 < target <= 1:
        raise Refused(f"a target accuracy of {target:g} is no fraction; write 0.75 for 75 %")
    kept = _without_superseded(frame[frame["arm"].isna()])
    order = {name: place for place, name in enumerate(dict.fromkeys(frame["model"]))}
    # Plain arrays: taking a group out of a frame costs a hundred times what taking it out of an array does.
    columns = {name: kept[name].to_numpy() for name in (*POOLED, *METRICS) if name in kept}
    columns["test_images"] = kept["test_images"].to_numpy(dtype=np.float64, na_value=math.nan)
    groups = kept.groupby(list(GROUP), sort=False, dropna=False).indices.values()
    places = sorted(groups, key=lambda own: int(own[0]))
    firsts = kept[SHARED].iloc[[own[0] for own in places]]
    shared = firsts.to_dict("records")
    rows = [
        _row({str(name): cell for name, cell in first.items()}, {n: v[own] for n, v in columns.items()}, target)
        for first, own in zip(shared, places, strict=True)
    ]
    whole = pd.DataFrame(rows, columns=list(CASE_TYPES)).astype(CASE_TYPES)
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
    row["traits"] = pooled(group["traits"])
    if row["status"] != "ok":
        return row
    row["throughputs"] = group["throughput"][~np.isnan(group["throughput"])].tolist()
    columns = {name: group[name] for name in METRICS if name in group}
    if target is not None:
        times = [
            statistics.time_to(target, seconds, accuracies) if len(seconds) else math.nan
            for seconds, accuracies in zip(group["epoch_seconds"], group["epoch_val_accuracy"], strict=True)
        ]
        columns["time_to_accuracy_s"] = np.array(times, dtype=np.float64)
        row["target"], row["reached"] = target, int(np.isfinite(times).sum())
    for name, values in columns.items():
        row.update(_figure(name, values, seeds))
    row["accuracy_mde"] = statistics.detectable(row["accuracy"], int(images.min()) if len(images) else 0)
    return row


def _figure(name: str, values: NDArray[np.float64], seeds: NDArray[np.int64]) -> dict[str, float]:
    metric = METRICS[name]
    replicates = _by_seed(values, seeds) if metric.replicate == "seed" else values
    figure = metric.summary(replicates)
    low, high = figure.low, figure.high
    if metric.unit == "%":
        low, high = np.clip([low, high], 0.0, 1.0)
    return {name: figure.value, f"{name}_low": low, f"{name}_high": high}


def _by_seed(values: NDArray[np.float64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median of each seed's values that are there; NaN for a seed that has none."""
    return np.asarray(pd.Series(values).groupby(seeds).median(), dtype=np.float64)


def _in_order(lists: Iterable[list[str]], order: Iterable[str]) -> list[str]:
    found = dict.fromkeys(item for items in lists for item in items)
    return sorted(found, key=list(order).index) if order else list(found)
