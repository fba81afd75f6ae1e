"""The Parquet copy of a large run file says what the file says, or is not taken."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import pandas as pd
import pytest

import results
from results import derived
from results.rows import SCHEMA, ProcessRow
from results.store import open_run
from tests.results.records import MACHINE, build

ROWS = 600


@pytest.fixture
def large(tmp_path: Path) -> Path:
    with open_run(tmp_path, command=["run"], planned=["lost"], machine=MACHINE, environment={"s": "Linux"}) as run:
        path = run.path
        made = [build(seed=n % 5, scenario=f"s{n % 3}", step_us=50_000 + n, steps=100) for n in range(20)]
        made.append(build(status="skipped", reason="no CUDA"))
        rows = [ProcessRow(schema=SCHEMA, run=run.run, protocol=1, environment="e", record=one) for one in made]
        lines = [msgspec.json.encode(row) + b"\n" for row in rows]
        with path.open("ab") as stream:
            stream.write(b"".join(lines[n % len(lines)][:-1] + b" " * (n // len(lines)) + b"\n" for n in range(ROWS)))
            stream.write(b"not a row\n")
        run.finish()
    assert path.stat().st_size > derived.WORTH_BYTES
    return tmp_path


def alike(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert one.attrs == other.attrs
    assert one.dtypes.to_dict() == other.dtypes.to_dict()
    for name in one.columns:
        for a, b in zip(one[name], other[name], strict=True):
            if name == "step_us":
                assert a.dtype == b.dtype
                assert (a == b).all()
            else:
                assert type(a) is type(b)
                assert a is pd.NA or a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_a_copy_is_made_once_and_gives_the_very_frame(large: Path) -> None:
    parsed = results.load(large)
    (copy,) = (large / "derived").iterdir()
    made = copy.stat().st_mtime_ns
    again = results.load(large)
    assert copy.stat().st_mtime_ns == made
    alike(parsed, again)
    pd.testing.assert_frame_equal(results.table(parsed), results.table(again))
    assert again.attrs["unread"] == {"unreadable": 1}
    assert sum(again.attrs["missing"].values()) == 1


def test_a_file_that_grew_or_changed_is_parsed_again(large: Path) -> None:
    results.load(large)
    (file,) = (large / "runs").rglob("*.jsonl")
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"accuracy":0.75', b'"accuracy":0.76'))
    assert results.load(large)["accuracy"].max() == 0.76
    file.write_bytes(content[: len(content) // 2])
    assert len(results.load(large)) < ROWS


def test_a_damaged_copy_is_not_taken_and_a_folder_that_cannot_be_written_is_no_error(large: Path) -> None:
    parsed = results.load(large)
    (copy,) = (large / "derived").iterdir()
    copy.write_bytes(copy.read_bytes()[:1000])
    alike(parsed, results.load(large))
    copy.unlink()
    (large / "derived").rmdir()
    (large / "derived").write_text("in the way")
    alike(parsed, results.load(large))


def test_a_row_more_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    record = build(steps=100)
    with open_run(tmp_path, command=["run"], planned=[], machine=MACHINE, environment={}) as run:

        def append() -> float:
            started = time.process_time()
            for _ in range(20):
                run.append(record)
            return time.process_time() - started

        first = min(append() for _ in range(5))
        with run.path.open("ab") as stream:
            stream.write(run.path.read_bytes() * 300)
        assert run.path.stat().st_size > 50 * derived.WORTH_BYTES
        last = min(append() for _ in range(5))
    assert last < 3 * first + 0.01
