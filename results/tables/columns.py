"""The list of all columns: name, type, unit, role and meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import pandas as pd
from numpy.typing import ArrayLike

from harness.spec import SETTINGS
from results import statistics
from results.statistics import Figure


class Metric(NamedTuple):
    """One figure of a record. `summary` pools the replicates of a case; `scale` converts a value to `unit`."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    summary: Callable[[ArrayLike], Figure]
    replicate: str = "process"
    scale: float = 1.0
    digits: int = 3

    def write(self, value: float) -> str:
        """Format a value in `unit` with `digits` significant digits, a percentage with one decimal.

        >>> METRICS["throughput"].write(1234.56), METRICS["throughput"].write(3.14159), METRICS["accuracy"].write(0.752)
        ('1235', '3.14', '75.2')
        """
        if pd.isna(value):
            return "–"
        scaled = value * self.scale
        if self.unit == "%":
            return f"{scaled:.1f}"
        whole = len(str(int(abs(scaled)))) if abs(scaled) >= 1 else 0
        return f"{scaled:.{max(0, self.digits - max(whole, 1))}f}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("throughput", "throughput", "images/s", True, statistics.median),
        Metric("mfu", "MFU, share of the measured ceiling", "%", True, statistics.median, scale=100),
        Metric("epoch_s", "epoch", "s", False, statistics.median),
        Metric("train_s", "training", "s", False, statistics.median),
        Metric("total_s", "process", "s", False, statistics.median),
        Metric("first_step_s", "first step", "s", False, statistics.median),
        Metric("compile_s", "compiling", "s", False, statistics.median),
        Metric("features_s", "computing features", "s", False, statistics.median),
        Metric("latency_ms", "step latency, median", "ms", False, statistics.median),
        Metric("latency_p95_ms", "step latency, p95", "ms", False, statistics.median),
        Metric("latency_max_ms", "step latency, largest", "ms", False, statistics.median),
        Metric("time_to_accuracy_s", "time to accuracy", "s", False, statistics.median),
        Metric("accuracy", "accuracy", "%", True, statistics.mean, replicate="seed", scale=100),
        Metric("loss", "loss", "nats", False, statistics.mean, replicate="seed"),
        Metric("val_accuracy", "validation accuracy", "%", True, statistics.mean, replicate="seed", scale=100),
        Metric("peak_memory_mb", "memory", "MB", False, statistics.median),
        Metric("joules_per_image", "energy per image", "J", False, statistics.median),
        Metric("joules_per_image_error", "uncertainty of the energy per image", "J", False, statistics.median),
        Metric("train_joules", "energy of training", "J", False, statistics.median),
        Metric("joules_to_accuracy", "energy to accuracy", "J", False, statistics.median),
    )
}


TO_ACCURACY = ("time_to_accuracy_s", "joules_to_accuracy")
"""Metrics of a case with a target accuracy; a single process has none."""


Row = Mapping[Hashable, Any]
"""A row of `results.load` or `results.table` by the names of its columns."""


def key_of(row: Mapping[Any, Any], names: Iterable[str]) -> tuple[Any, ...]:
    """Return the values of a row in these columns, None for missing ones."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in names)


class Column(NamedTuple):
    """A column of `results.load` (a row per process), of `results.table` (a row per case), or of both.

    A metric has two more columns in the table, NAME_low and NAME_high, for its interval.
    """

    name: str
    type: Literal["string", "int64", "Int64", "float64", "bool", "object"]
    role: Literal["identity", "setting", "figure", "mark"]
    text: str
    unit: str = ""
    of: Literal["process", "case", "both"] = "both"


def _of_case(*names: str) -> Iterator[Column]:
    for name in names:
        setting = SETTINGS[name]
        types: dict[Any, Literal["bool", "int64", "Int64"]] = {bool: "bool", int: "int64", int | None: "Int64"}
        of: Literal["process", "both"] = "process" if name == "seed" else "both"
        yield Column(name, types.get(setting.type, "string"), setting.role, setting.text, of=of)


def _metric(name: str) -> Column:
    metric = METRICS[name]
    unit = "fraction" if metric.unit == "%" else metric.unit
    return Column(name, "float64", "figure", metric.title, unit, "case" if name in TO_ACCURACY else "both")


_FIRST = ("backend", "engine", "model", "scenario", "dataset", "device", "precision")
_SHOWN = ("throughput", "epoch_s", "train_s", "accuracy", "peak_memory_mb")

COLUMNS = (
    *_of_case(*_FIRST),
    Column("status", "string", "mark", "end of the process: ok, skipped, failed, timeout, oom, killed or interrupted"),
    Column("reason", "string", "mark", "why the status is not ok"),
    Column("runs", "int64", "figure", "number of processes", of="case"),
    Column("seeds", "int64", "figure", "number of different seeds", of="case"),
    *map(_metric, (*_SHOWN, *(name for name in METRICS if name not in _SHOWN))),
    Column("throughputs", "object", "figure", "throughput of each process", "images/s", "case"),
    Column("accuracy_mde", "float64", "figure", "smallest difference that the test set can show", "fraction", "case"),
    Column("target", "float64", "figure", "validation accuracy of time_to_accuracy_s", "fraction", "case"),
    Column("reached", "Int64", "figure", "number of processes that reached the target", of="case"),
    Column("test_images", "Int64", "figure", "number of images that accuracy and loss are measured on"),
    Column(
        "trained_images",
        "string",
        "figure",
        "images of the throughput windows by stage and its frozen part, as JSON",
        of="process",
    ),
    Column("window_s", "float64", "figure", "length of the throughput window", "s", "process"),
    Column("process_memory_mb", "float64", "figure", "peak memory of the process", "MB", "process"),
    Column("device_memory_mb", "float64", "figure", "peak memory on the GPU", "MB", "process"),
    Column("step_us", "object", "figure", "every step time", "µs", "process"),
    Column("epoch_seconds", "object", "figure", "training time of each epoch", "s", "process"),
    Column("epoch_val_accuracy", "object", "figure", "validation accuracy after each epoch", "fraction", "process"),
    Column("epoch_joules", "object", "figure", "energy of each epoch, above the idle machine", "J", "process"),
    Column("energy_source", "string", "mark", "counters of the energy, and why it or a part of it is missing"),
    Column("wall_s", "object", "figure", "seconds of each part of the process", "s", "process"),
    Column("wall_parts", "string", "mark", "names of the parts of wall_s"),
    Column("marks", "object", "mark", "codes of the notes about the figures"),
    Column("notes", "object", "mark", "remarks of the process about its data and checkpoint"),
    Column("traits", "string", "mark", "facts that must be equal on both sides of a ratio, by seed, as JSON"),
    Column("backend_name", "string", "identity", "backend and engine"),
    *_of_case(*(name for name in SETTINGS if name not in _FIRST)),
    Column("epochs", "int64", "setting", "epochs of all stages"),
    Column("batch_size", "string", "setting", "batch size of each stage"),
    Column("start", "string", "setting", "start of the scenario: checkpoint or random"),
    Column("recipe", "string", "identity", "digest of the scenario without epochs and batch sizes"),
    Column("stages", "string", "identity", "digest of the scenario"),
    Column(
        "setting", "string", "identity", "digest of all settings except scenario, model, backend, checkpoint and seed"
    ),
    Column("version", "string", "identity", "digest of the protocol and of all settings except the seed"),
    Column("key", "string", "identity", "digest of the whole case", of="process"),
    Column("protocol", "int64", "identity", "number of the measuring protocol"),
    Column("machine", "string", "identity", "digest of the machine"),
    Column("environment", "string", "identity", "digest of the installed packages"),
    Column("packages", "string", "identity", "installed packages"),
    Column("versions", "object", "identity", "installed packages by name", of="process"),
    Column("device_name", "string", "identity", "processor or GPU"),
    Column("backbone_parameters", "Int64", "identity", "number of parameters of the backbone"),
    Column("run", "string", "identity", "run of the process", of="process"),
    Column("started", "string", "identity", "start time of the process", of="process"),
    Column("comparison", "string", "identity", "comparison of the process", of="process"),
    Column("arm", "string", "identity", "side of the comparison", of="process"),
    Column("logits", "string", "identity", "digest of the stored logits", of="process"),
    Column("file", "string", "identity", "file of the row", of="process"),
    Column("offset", "int64", "identity", "position of the row in the file", "bytes", "process"),
)
"""Every column, in the order of the table."""

PROCESS_TYPES = {column.name: column.type for column in COLUMNS if column.of != "case"}
"""Columns of `results.load` with their types."""

CASE_TYPES = {
    f"{column.name}{end}": column.type
    for column in COLUMNS
    if column.of != "process"
    for end in (("", "_low", "_high") if column.name in METRICS else ("",))
}
"""Columns of `results.table` with their types. Missing figures are NaN, and so are the bounds of one replicate."""

_IN_JSON: Mapping[str, Any] = {
    "string": str | None,
    "int64": int,
    "Int64": int | None,
    "float64": float | None,
    "bool": bool,
}
_LISTS: Mapping[str, Any] = {"throughputs": list[float], "marks": list[str], "notes": list[str]}

CaseRow = msgspec.defstruct(
    "CaseRow",
    [(name, _LISTS.get(name) or _IN_JSON[kind]) for name, kind in CASE_TYPES.items()],
    frozen=True,
    kw_only=True,
    namespace={"__doc__": "A row of the table in JSON, by the names of its columns. Missing figures are null."},
)


def frame_of(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame with these columns and types; a value that a row lacks is missing in the frame.

    It is made by columns, because pandas takes four times as long to make it by rows and to change its types.
    """
    return pd.DataFrame(
        {name: pd.array([row.get(name, math.nan) for row in rows], dtype=kind) for name, kind in types.items()}  # type: ignore[call-overload]
    )
