"""pytest-benchmark's own command understands the file, and its figures are those of the records."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import results
from harness.errors import Declined
from harness.running.record import Record
from results.exports.benchmark_json import as_benchmark_json
from tests.results.exports.sides import store_sides
from tests.results.records import build, joined
from tests.results.tables.test_load import store


def export(folder: Path, *records: Record) -> Path:
    store(folder, *records)
    (folder / "bench.json").write_bytes(as_benchmark_json(results.load(folder)))
    return folder / "bench.json"


def compare(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_real_command_shows_the_latency_of_every_process(tmp_path: Path) -> None:
    before = export(tmp_path / "before", build(step_us=50_000), build(seed=1, step_us=60_000))
    after = export(tmp_path / "after", build(step_us=40_000))
    shown = compare(tmp_path, str(before), str(after), "--csv", "table.csv", "--columns", "median,rounds")
    assert shown.count("pytorch/resnet18/full/seed0") == 2
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(float(row["median"]) for row in rows) == pytest.approx([0.04, 0.05, 0.06], rel=1e-4)
    assert {row["rounds"] for row in rows} == {"10"}


def test_only_synchronised_steps_are_counted(tmp_path: Path) -> None:
    record = build()
    (benchmark,) = json.loads(export(tmp_path, record).read_bytes())["benchmarks"]
    latency = [step / 1e6 for step in record.stages[0].step_us[-10:]]
    assert benchmark["stats"]["data"] == latency
    assert benchmark["stats"]["median"] == median(latency)


def test_of_two_stages_only_the_last_one_s_latencies_are_shown(tmp_path: Path) -> None:
    record = joined(build(step_us=10_000), build(step_us=90_000))
    (benchmark,) = json.loads(export(tmp_path, record).read_bytes())["benchmarks"]
    assert sorted(set(benchmark["stats"]["data"])) == [0.09, 0.090001]


def test_two_versions_never_stand_in_one_table_V52(tmp_path: Path) -> None:
    file = export(tmp_path, build(), build(seed=1), build(image_size=32))
    groups = [benchmark["group"] for benchmark in json.loads(file.read_bytes())["benchmarks"]]
    assert groups[0] == groups[1] != groups[2]


def test_the_arms_of_a_comparison_are_apart(tmp_path: Path) -> None:
    store_sides(tmp_path, build(), build(seed=1))
    groups = [one["group"] for one in json.loads(as_benchmark_json(results.load(tmp_path)))["benchmarks"]]
    assert [group.partition(", ")[2] for group in groups] == ["side A of c1", "side B of c1"]


def test_nothing_to_show_is_declined_V50(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="no process has step latencies"):
        export(tmp_path, build(status="skipped"))


def test_void_and_unmeasured_processes_are_left_out(tmp_path: Path) -> None:
    void = build(compile_events=1)
    skipped = build(seed=1, status="skipped", reason="no CUDA")
    file = export(tmp_path, void, skipped, build(seed=2))
    assert [one["name"] for one in json.loads(file.read_bytes())["benchmarks"]] == ["pytorch/resnet18/full/seed2"]
