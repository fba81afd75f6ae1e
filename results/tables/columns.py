"""The one list of columns: name, type, unit, role and meaning. What is known about a figure is data, not code."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd
from numpy.typing import ArrayLike

from harness.spec import SETTINGS
from results import statistics
from results.statistics import Figure


class Metric(NamedTuple):
    """One figure of a record. `summary` turns the replicates of a case into one figure; `scale` is for people."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    summary: Callable[[ArrayLike], Figure]
    replicate: str = "process"
    scale: float = 1.0
    digits: int = 3

    def write(self, value: float) -> str:
        """The figure for people, in `unit`: that many significant digits, whole ones kept; a percentage to one decimal.

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
        Metric("epoch_s", "epoch", "s", False, statistics.median),
        Metric("train_s", "training", "s", False, statistics.median),
        Metric("total_s", "process", "s", False, statistics.median),
        Metric("first_step_s", "first step", "s", False, statistics.median),
        Metric("compile_s", "compiling", "s", False, statistics.median),
        Metric("latency_ms", "step latency, median", "ms", False, statistics.median),
        Metric("latency_p95_ms", "step latency, p95", "ms", False, statistics.median),
        Metric("latency_max_ms", "step latency, largest", "ms", False, statistics.median),
        Metric("time_to_accuracy_s", "time to accuracy", "s", False, statistics.median),
        Metric("accuracy", "accuracy", "%", True, statistics.mean, replicate="seed", scale=100),
        Metric("loss", "loss", "nats", False, statistics.mean, replicate="seed"),
        Metric("val_accuracy", "validation accuracy", "%", True, statistics.mean, replicate="seed", scale=100),
        Metric("peak_memory_mb", "memory", "MB", False, statistics.median),
    )
}


Row = Mapping[Hashable, Any]
"""A row of `results.load` or `results.table` by the names of its columns."""


def key_of(row: Mapping[Any, Any], names: Iterable[str]) -> tuple[Any, ...]:
    """The values of a row in these columns, None where there is none."""
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
    return Column(name, "float64", "figure", metric.title, unit, "case" if name == "time_to_accuracy_s" else "both")


_FIRST = ("backend", "engine", "model", "scenario", "dataset", "device", "precision")
_SHOWN = ("throughput", "epoch_s", "train_s", "accuracy", "peak_memory_mb")

COLUMNS = (
    *_of_case(*_FIRST),
    Column(
        "status", "string", "mark", "how the process ended: ok, skipped, failed, timeout, oom, killed or interrupted"
    ),
    Column("reason", "string", "mark", "why it did not end well"),
    Column("runs", "int64", "figure", "processes", of="case"),
    Column("seeds", "int64", "figure", "different seeds among them", of="case"),
    *map(_metric, (*_SHOWN, *(name for name in METRICS if name not in _SHOWN))),
    Column("throughputs", "object", "figure", "throughput of each process", "images/s", "case"),
    Column("accuracy_mde", "float64", "figure", "smallest effect that the test set could show", "fraction", "case"),
    Column("target", "float64", "figure", "validation accuracy that time_to_accuracy_s is about", "fraction", "case"),
    Column("reached", "Int64", "figure", "processes that reached it", of="case"),
    Column("test_images", "Int64", "figure", "images that accuracy and loss are of"),
    Column("window_s", "float64", "figure", "seconds that the throughput is of", "s", "process"),
    Column("process_memory_mb", "float64", "figure", "peak of the process", "MB", "process"),
    Column("device_memory_mb", "float64", "figure", "peak on the GPU", "MB", "process"),
    Column("step_us", "object", "figure", "every step time", "µs", "process"),
    Column("epoch_seconds", "object", "figure", "training time of each epoch", "s", "process"),
    Column("epoch_val_accuracy", "object", "figure", "validation accuracy after each epoch", "fraction", "process"),
    Column("wall_s", "object", "figure", "seconds of each part of the process", "s", "process"),
    Column("wall_parts", "string", "mark", "names of these parts"),
    Column("marks", "object", "mark", "what must be known about the figures"),
    Column("notes", "object", "mark", "what was noted while the process ran"),
    Column("traits", "string", "mark", "by seed what both sides of a ratio must have in common, as JSON"),
    Column("backend_name", "string", "identity", "backend and engine"),
    *_of_case(*(name for name in SETTINGS if name not in _FIRST)),
    Column("epochs", "int64", "setting", "epochs of all stages"),
    Column("batch_size", "string", "setting", "batch size of each stage"),
    Column("start", "string", "setting", "the scenario starts from a checkpoint or from random values"),
    Column("recipe", "string", "identity", "digest of the scenario but for epochs and batch sizes"),
    Column("stages", "string", "identity", "digest of the scenario"),
    Column("setting", "string", "identity", "digest of all settings but scenario, model, backend, checkpoint and seed"),
    Column("version", "string", "identity", "digest of all settings but the seed, and of the protocol"),
    Column("key", "string", "identity", "digest of the whole case", of="process"),
    Column("protocol", "int64", "identity", "number of the measuring protocol"),
    Column("machine", "string", "identity", "digest of the machine"),
    Column("environment", "string", "identity", "digest of what was installed"),
    Column("packages", "string", "identity", "what was installed"),
    Column("versions", "object", "identity", "the same by name", of="process"),
    Column("device_name", "string", "identity", "processor or GPU"),
    Column("backbone_parameters", "Int64", "identity", "number of parameters of the backbone"),
    Column("run", "string", "identity", "run that the process belongs to", of="process"),
    Column("started", "string", "identity", "when the process began", of="process"),
    Column("comparison", "string", "identity", "comparison that the process belongs to", of="process"),
    Column("arm", "string", "identity", "side of that comparison", of="process"),
    Column("logits", "string", "identity", "digest of the stored logits", of="process"),
    Column("file", "string", "identity", "file of the row", of="process"),
    Column("offset", "int64", "identity", "where in the file the row begins", "bytes", "process"),
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
"""Columns of `results.table` with their types; figures are NaN where there is none, bounds where one replicate leaves
none."""
