"""The Parquet copy of a large run file says what the file says, or is not taken."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

import results
from results.storage.rows import SCHEMA, ProcessRow
from results.storage.run_files import open_run
from results.tables import parquet_cache
from results.tables.parquet_cache import read_piece
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
    assert path.stat().st_size > parquet_cache.WORTH_BYTES
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


def test_a_change_in_the_middle_that_keeps_size_and_time_is_seen(large: Path) -> None:
    results.load(large)
    (file,) = (large / "runs").rglob("*.jsonl")
    status, content = file.stat(), file.read_bytes()
    place = content.index(b'"accuracy":0.75', len(content) // 2)
    file.write_bytes(content[:place] + b'"accuracy":0.99' + content[place + 15 :])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert results.load(large)["accuracy"].max() == 0.99 or results.load(large)["val_accuracy"].max() == 0.99
    assert len(list((large / "derived").iterdir())) == 1  # in place of the earlier one


def test_a_copy_with_one_bit_changed_is_not_taken(large: Path) -> None:
    parsed = results.load(large)
    (copy,) = (large / "derived").iterdir()
    content = copy.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 20):
        damaged = bytearray(content)
        damaged[place] ^= 4
        copy.write_bytes(bytes(damaged))
        assert read_piece(sorted((large / "runs").rglob("*.jsonl"))) is None
    copy.write_bytes(content[:1000])
    alike(parsed, results.load(large))


def test_a_folder_that_cannot_be_written_is_no_error(large: Path) -> None:
    (large / "derived").write_text("in the way")
    assert len(results.load(large)) == len(results.load(large))


def test_many_small_runs_share_a_copy_and_a_run_more_makes_it_anew(tmp_path: Path) -> None:
    for number in range(30):
        with open_run(tmp_path, command=["run"], planned=(), machine=MACHINE, environment={}) as run:
            for seed in range(3):
                run.append(build(seed=seed, scenario=f"s{number}", steps=100))
            run.finish()
    parsed = results.load(tmp_path)
    assert len(list((tmp_path / "derived").iterdir())) == 1
    alike(parsed, results.load(tmp_path))
    with open_run(tmp_path, command=["run"], planned=(), machine=MACHINE, environment={}) as run:
        run.append(build(seed=9))
    assert len(results.load(tmp_path)) == len(parsed) + 1
    assert len(list((tmp_path / "derived").iterdir())) == 1


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
        assert run.path.stat().st_size > 50 * parquet_cache.WORTH_BYTES
        last = min(append() for _ in range(5))
    assert last < 3 * first + 0.01
