"""Stored times as a file of pytest-benchmark, with its statistics, for `pytest-benchmark compare FILE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from harness.errors import Declined
from harness.spec import SETTINGS
from results.storage.comparison import Comparison
from results.storage.rows import record_at
from results.storage.windows import steps_of
from results.verdicts.stored_comparisons import read_comparisons


def as_benchmark_json(frame: pd.DataFrame) -> bytes:
    """Write one benchmark per process with step latencies (synchronised steps, in seconds).

    A group holds one version of a case on one device of one machine (V52), and one side of a comparison. Raises
    `Declined` if no process has latencies (V50), ImportError without pytest-benchmark.
    """
    from pytest_benchmark import __version__

    benchmarks = [_process(row) for row in frame.to_dict("records") if not pd.isna(row["latency_ms"])]
    if not benchmarks:
        raise Declined("no process has step latencies to export; `table` shows the status of each case")
    machine = {"machine": ", ".join(dict.fromkeys(frame["machine"]))}
    return _file(benchmarks, machine, "unversioned", max(frame["started"], default=""), __version__)


def turns_json(results_dir: Path, comparisons: Sequence[Comparison]) -> bytes:
    """Write the seconds per step of every valid turn, by case and side. Raises `Declined` without pytest-benchmark."""
    if find_spec("pytest_benchmark") is None:
        raise Declined("pytest-benchmark is not installed; pip install pytest-benchmark")
    from pytest_benchmark import __version__

    stored = {one.name: one.pairs for one in read_comparisons(results_dir)}
    benchmarks = []
    for one in comparisons:
        for side, facts in zip(("A", "B"), one.sides, strict=True):
            records = (pair.a if side == "A" else pair.b for pair in stored.get(one.name, ()) if pair.counts)
            seconds = [turn.seconds / turn.steps for record in records for turn in record.turns]
            about = {"param": side, "extra_info": {"arm": facts.text, "verdict": one.verdict}}
            if seconds:
                benchmarks.append(_benchmark(one.label, f"{one.label}[{side}]", seconds, **about))
    revision = comparisons[0].sides[1].revision if comparisons else ""
    return _file(benchmarks, {}, revision, datetime.now(UTC).isoformat(), __version__)


def _process(row: dict[Any, Any]) -> dict[str, Any]:
    record = record_at(Path(row["file"]), row["offset"])
    case = record.case
    side = "" if pd.isna(row["arm"]) else f", side {row['arm']} of {row['comparison']}"
    place = f"{row['machine']} {row['device']}{side}"
    facts = ("run", "version", "machine", "environment", *SETTINGS, "epochs", "throughput", "accuracy")
    return _benchmark(
        f"{case.backend_name}/{case.model}/{case.scenario.name} {row['version'][:8]} on {place}",
        case.label,
        [step / 1e6 for step in steps_of(record.stages[-1], "latency")],  # the last stage only, as `latency_ms`
        extra_info={name: None if pd.isna(row[name]) else row[name] for name in facts},
        options={"timer": "perf_counter_ns", "warmup": case.warmup_steps},
    )


def _benchmark(group: str, name: str, seconds: Sequence[float], **about: Any) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for one in seconds:
        stats.update(one)
    figures = {**stats.as_dict(), "iterations": 1, "data": stats.data}
    named = {"group": group, "name": name, "fullname": name}
    return {**named, "params": None, "param": None, "options": {}, **about, "stats": figures}


def _file(benchmarks: Sequence[Any], machine: Mapping[str, str], revision: str, moment: str, version: str) -> bytes:
    about = {"machine_info": machine, "commit_info": {"id": revision}, "datetime": moment, "version": version}
    return msgspec.json.format(msgspec.json.encode(about | {"benchmarks": benchmarks}), indent=1) + b"\n"
