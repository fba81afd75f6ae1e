"""What a figure is: its name, unit, direction and how it is written. Direction and unit are data, not code."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from numpy.typing import ArrayLike

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
