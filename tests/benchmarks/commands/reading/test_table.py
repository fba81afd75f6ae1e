from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import results
from tests.benchmarks.commanding import invoke, refused
from tests.benchmarks.conftest import Finished

FIRST = ["backend", "engine", "model", "scenario", "dataset", "device", "precision", "status", "reason", "runs"]


def test_the_table_is_the_one_that_the_run_printed(finished: Finished) -> None:
    assert invoke("table", "--results", finished.results).stdout in finished.output


def test_markdown_has_a_row_per_scenario(finished: Finished) -> None:
    text = invoke("table", "--results", finished.results, "--format", "markdown").stdout
    assert "| model | method | framework | accuracy % | images/s | train s | total s | MB |" in text
    assert text.count("| tiny-cnn") == 2


def test_the_answer_is_printed_before_the_table(finished: Finished) -> None:
    lines = invoke("table", "--results", finished.results).stdout.splitlines()
    heading = next(place for place, line in enumerate(lines) if "method" in line and "framework" in line)
    assert lines[0].startswith("On three colours, the fastest way to the best accuracy was ")
    assert "" in lines[:heading]


def test_more_columns_and_ids_of_rules_are_options(finished: Finished) -> None:
    table = ("table", "--results", finished.results)
    plain, more = invoke(*table).stdout, invoke(*table, "--wide", "--explain").stdout
    assert "compile s" in more
    assert "compile s" not in plain
    assert re.search(r"\(V\d\d\)", more)
    assert not re.search(r"V\d\d", plain)


def read(content: bytes, kind: str) -> pd.DataFrame:
    if kind == "csv":
        return pd.read_csv(io.BytesIO(content))
    return pd.read_parquet(io.BytesIO(content)) if kind == "parquet" else pd.DataFrame(json.loads(content))


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_other_formats_hold_typed_columns_for_other_programs(finished: Finished, kind: str) -> None:
    frame = read(invoke("table", "--results", finished.results, "--format", kind).stdout_bytes, kind)
    assert list(frame.columns[:10]) == FIRST
    assert {"throughput", "throughput_low", "throughput_high", "epoch_s", "accuracy", "peak_memory_mb"} <= set(frame)
    assert list(frame["scenario"]) == ["full", "freeze-conv"]
    assert list(frame["runs"]) == [2, 2]
    assert frame["throughput"].dtype.kind == "f"


def test_python_gets_the_same_figures(finished: Finished) -> None:
    frame = results.table(results.load(finished.results))
    stored = read(invoke("table", "--results", finished.results, "--format", "parquet").stdout_bytes, "parquet")
    assert list(frame["accuracy"]) == list(stored["accuracy"])
    mean = sum(r.test.accuracy for r in finished.records[:2] if r.test) / 2
    assert frame["accuracy"][0] == pytest.approx(mean)


def test_a_target_gives_the_time_to_reach_it(finished: Finished) -> None:
    asked = ("table", "--results", finished.results, "--target-accuracy", "0.01", "--format", "json")
    frame = read(invoke(*asked).stdout_bytes, "json")
    assert (frame["reached"] == 2).all()
    assert (frame["time_to_accuracy_s"] > 0).all()


def test_a_table_can_be_written_to_a_file(finished: Finished, tmp_path: Path) -> None:
    result = invoke("table", "--results", finished.results, "--format", "parquet", "--out", tmp_path / "table.parquet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len(pd.read_parquet(tmp_path / "table.parquet")) == 2


def test_a_single_run_s_file_makes_a_table_too(finished: Finished) -> None:
    (file,) = finished.results.rglob("*.jsonl")
    assert invoke("table", "--results", file).stdout == invoke("table", "--results", finished.results).stdout


def test_what_cannot_be_read_or_written_is_refused(finished: Finished, tmp_path: Path) -> None:
    assert "does not exist" in refused("table", "--results", tmp_path / "nothing")
    table = ("table", "--results", finished.results, "--format")
    assert "x.csv" in refused(*table, "csv", "--out", tmp_path / "nowhere" / "x.csv")
    assert "'html' is not one of" in refused(*table, "html")
