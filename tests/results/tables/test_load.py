"""From files to one typed frame."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

import results
from harness.errors import Refused
from harness.running.initial_weights import LoadReport
from harness.running.record import Record
from results.storage.rows import SCHEMA, record_at
from results.storage.run_files import open_run, unfinished
from results.tables.columns import PROCESS_TYPES
from results.tables.load import NothingMeasured
from results.tables.render import render
from tests.results.records import MACHINE, build


def store(folder: Path, *records: Record, planned: tuple[str, ...] = (), end: bool = True) -> Path:
    with open_run(folder, command=["run"], planned=planned, machine=MACHINE, environment={"system": "Linux"}) as run:
        for record in records:
            run.append(record)
        if end:
            run.finish()
    return run.path


def test_a_row_per_process_with_typed_columns(tmp_path: Path) -> None:
    written = [build(seed=seed, step_us=1000 + seed) for seed in range(3)]
    store(tmp_path, *written, build(status="skipped", reason="no CUDA"))
    frame = results.load(tmp_path)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        name: "string" if kind == "string" else kind for name, kind in PROCESS_TYPES.items()
    }
    assert frame["seed"].tolist() == [0, 1, 2, 0]
    assert frame["status"].tolist() == ["ok"] * 3 + ["skipped"]
    assert frame["engine"].isna().all()
    assert frame["step_us"][2].dtype == np.int64
    assert frame["step_us"][2].tolist() == list(written[2].stages[0].step_us)
    assert len(frame["step_us"][3]) == 0
    assert frame.attrs["warnings"] == []
    again = [record_at(Path(file), offset) for file, offset in zip(frame["file"], frame["offset"], strict=True)]
    assert again[:3] == written


def test_what_an_import_noted_of_a_checkpoint_is_below_the_table(tmp_path: Path) -> None:
    odd = LoadReport(loaded=("conv1.weight",), notes=("the file's padding is unknown",))
    store(tmp_path, build(model="resnet18", load=odd), build(model="resnet34"))
    assert results.load(tmp_path)["notes"].tolist() == [
        ["checkpoint of resnet18: the file's padding is unknown"], []
    ]  # fmt: skip
    shown = render(results.table(results.load(tmp_path)), "text")
    assert "checkpoint of resnet18: the file's padding is unknown" in " ".join(shown.decode().split())


def test_a_single_file_and_a_folder_of_runs_can_be_loaded_too(tmp_path: Path) -> None:
    path = store(tmp_path, build())
    store(tmp_path, build(seed=1))
    assert len(results.load(path)) == 1
    assert len(results.load(path.parent)) == 2


def test_what_is_no_row_is_counted_and_told_by_its_fault(tmp_path: Path) -> None:
    path = store(tmp_path, build())
    good = path.read_bytes().splitlines(keepends=True)
    future = good[1].replace(b'"schema":%d' % SCHEMA, b'"schema":99')
    newer = b'{"row":"process","schema":%d,"what":"else"}\n' % (SCHEMA + 1)
    broken = good[1].replace(b'"status":"ok"', b'"status":"fine"')
    foreign = b'{"loss": 0.1, "step": 3}\n[1, 2]\n'
    path.write_bytes(
        good[0] + future + newer + broken + b"\xff\xfe\n" + b"\0\0\n" + foreign + good[1] + b"\n" + good[1][:-1]
    )
    frame = results.load(tmp_path)
    assert len(frame) == 1
    assert frame.attrs["unread"] == {"future": 2, "unreadable": 3, "foreign": 2, "cut": 1}
    said = "V50: 2 lines not read: written by a newer version of this program; upgrade to read it"
    assert said in map(str, frame.attrs["warnings"])


def test_nothing_readable_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        results.load(tmp_path / "nowhere")
    with pytest.raises(NothingMeasured, match="holds no record"):
        results.load(tmp_path)
    store(tmp_path, planned=("a", "b"))
    with pytest.raises(NothingMeasured, match="planned 2 cases and has no record of 2"):
        results.load(tmp_path)
    (tmp_path / "runs" / "foreign.jsonl").write_text('{"loss": 0.1}\n')
    with pytest.raises(NothingMeasured, match=r"V50: 1 line not read: not written by this program"):
        results.load(tmp_path)


def test_a_missing_case_is_told_until_the_run_is_resumed(tmp_path: Path) -> None:
    first, second = build(), build(seed=1)
    store(tmp_path, first, planned=(first.key, second.key), end=False)
    frame = results.load(tmp_path)
    (warning,) = frame.attrs["warnings"]
    assert list(frame.attrs["missing"].values()) == [1]
    assert "planned 2 cases and has no record of 1 of them; `run --resume`" in warning.text
    with open_run(
        tmp_path, command=[], planned=[], machine=MACHINE, environment={}, resume=unfinished(tmp_path)
    ) as run:
        run.append(second)
        run.finish()
    frame = results.load(tmp_path)
    assert frame.attrs["warnings"] == []
    assert frame["run"].nunique() == 1


def test_folders_merged_twice_double_nothing(tmp_path: Path) -> None:
    same = build(status="skipped")
    path = store(tmp_path, build(), build(seed=1), same, same)
    lines = path.read_bytes().splitlines(keepends=True)
    (path.parent / "copied").mkdir()
    shutil.copy(path, path.parent / "copied" / path.name)
    (path.parent / "copied" / path.name).write_bytes(b"".join(lines[:2]))
    assert results.load(tmp_path)["seed"].tolist() == [0, 1, 0, 0]


def test_records_that_never_came_to_a_framework_have_no_environment(tmp_path: Path) -> None:
    store(tmp_path, build(), build(versions={"torch": "9"}), build(status="skipped"))
    one, other, none = results.load(tmp_path)["environment"]
    assert one != other
    assert none == ""


def test_two_thousand_rows_of_a_hundred_steps_load_in_two_seconds(tmp_path: Path) -> None:
    path = store(tmp_path, build(steps=100, curve=(0.1,) * 10))
    head, row, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + row * 2000 + end)
    started = time.process_time()
    frame = results.load(tmp_path)
    assert time.process_time() - started < 2
    assert len(frame) == 2000


def test_unknown_fields_of_a_row_do_not_make_it_unreadable(tmp_path: Path) -> None:
    path = store(tmp_path, build())
    head, row, end = path.read_bytes().splitlines(keepends=True)
    fields = msgspec.json.decode(row)
    fields["record"]["weather"] = "fine"
    path.write_bytes(head + msgspec.json.encode(fields) + b"\n" + end)
    assert len(results.load(tmp_path)) == 1
