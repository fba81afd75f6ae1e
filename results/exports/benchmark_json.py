"""Stored step times as a file of pytest-benchmark, for `pytest-benchmark compare FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from harness.errors import Declined
from harness.spec import SETTINGS
from results.storage.rows import record_at
from results.storage.windows import steps_of


def as_benchmark_json(frame: pd.DataFrame) -> bytes:
    """One benchmark per process that has step latencies (synchronised steps, in seconds); the others have none to show.

    Benchmarks of one group are of one version of a case on one device of one machine, so that none that did other work
    stands in the same table (V52); the sides of a comparison are apart too. The statistics are pytest-benchmark's own.
    Raises `Declined` if no process has any (V50), ImportError where pytest-benchmark is not installed.
    """
    from pytest_benchmark import __version__

    benchmarks = [_benchmark(row) for row in frame.to_dict("records") if not pd.isna(row["latency_ms"])]
    if not benchmarks:
        raise Declined("no process here has step latencies to export; `table` says what became of each")
    content = {
        "machine_info": {"machine": ", ".join(dict.fromkeys(frame["machine"]))},
        "commit_info": {"id": "unversioned"},
        "benchmarks": benchmarks,
        "datetime": max(frame["started"], default=""),
        "version": __version__,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _benchmark(row: dict[Any, Any]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    record = record_at(Path(row["file"]), row["offset"])
    stats = Stats()
    for step in steps_of(record.stages[-1], "latency"):  # as `latency_ms`: steps of two stages are unlike
        stats.update(step / 1e6)
    case = record.case
    side = "" if pd.isna(row["arm"]) else f", side {row['arm']} of {row['comparison']}"
    place = f"{row['machine']} {row['device']}"
    facts = ("run", "version", "machine", "environment", *SETTINGS, "epochs", "throughput", "accuracy")
    return {
        "group": f"{case.backend_name}/{case.model}/{case.scenario.name} {row['version'][:8]} on {place}{side}",
        "name": case.label,
        "fullname": case.label,
        "params": None,
        "param": None,
        "extra_info": {name: None if pd.isna(row[name]) else row[name] for name in facts},
        "options": {"timer": "perf_counter_ns", "warmup": case.warmup_steps},
        "stats": {**stats.as_dict(), "iterations": 1, "data": stats.data},
    }
