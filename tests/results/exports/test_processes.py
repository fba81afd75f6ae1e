"""A row per process for pandas, DuckDB or a spreadsheet: typed, complete, and the same figures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import results
from harness.running.record import Record
from results.exports.processes import as_csv
from results.tables.parquet_cache import NESTED, as_parquet
from tests.results.records import build
from tests.results.tables.test_load import store

SKIPPED = build(device="cuda", status="skipped", reason="no CUDA, nor\n\"any\" other device; 'cpu' is there")


def load(folder: Path, *records: Record) -> pd.DataFrame:
    store(folder, *records)
    return results.load(folder)


def test_parquet_gives_back_every_cell(tmp_path: Path) -> None:
    frame = load(tmp_path, build(), build(seed=1, engine="jax", limit=20), SKIPPED)
    read = pq.read_table(io.BytesIO(as_parquet(frame)))
    assert read.column_names == list(frame.columns)
    for name in frame.columns:
        cells = [
            dict(cell) if pa.types.is_map(read.schema.field(name).type) else cell for cell in read[name].to_pylist()
        ]
        own = [None if not isinstance(cell, list | dict) and pd.isna(cell) else cell for cell in _lists(frame[name])]
        assert cells == own, name


def test_types_of_parquet_do_not_depend_on_what_was_measured(tmp_path: Path) -> None:
    full = pq.read_schema(io.BytesIO(as_parquet(load(tmp_path / "a", build(), SKIPPED))))
    empty = pq.read_schema(io.BytesIO(as_parquet(load(tmp_path / "b", SKIPPED))))
    assert full.equals(empty)
    assert (full.field("throughput").type, full.field("seed").type) == (pa.float64(), pa.int64())
    assert full.field("step_us").type == pa.list_(pa.int64())


def test_csv_reads_back_to_the_same_figures(tmp_path: Path) -> None:
    frame = load(tmp_path, build(accuracy=1 / 3), SKIPPED)
    read = pd.read_csv(io.BytesIO(as_csv(frame)))
    assert list(read.columns) == list(frame.columns)
    for name in frame.select_dtypes("float64"):
        assert read[name].astype(float).equals(frame[name]), name
    assert read["reason"][1] == SKIPPED.reason
    for name in NESTED:
        assert [json.loads(cell) for cell in read[name]] == _lists(frame[name])


def test_lists_and_mappings_are_all_known(tmp_path: Path) -> None:
    frame = load(tmp_path, build())
    assert {name for name in frame.columns if frame[name].dtype == object} == set(NESTED)


def _lists(column: pd.Series) -> list[object]:
    return [cell.tolist() if hasattr(cell, "tolist") else cell for cell in column]
