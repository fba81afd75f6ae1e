"""Folders of several machines become one; nothing is lost, nothing is doubled."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import results
from harness.errors import Refused
from harness.running.record import Quality
from results.storage.merge import merge
from results.storage.run_files import open_run
from tests.benchmarks.commanding import invoke, refused
from tests.results.records import MACHINE, build
from tests.results.tables.test_load import store


def folder_of(place: Path, *seeds: int) -> Path:
    store(place, *(build(seed=seed) for seed in seeds))
    return place


def test_runs_of_two_folders_are_in_the_third_once_however_often_it_is_done(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one", 0, 1), folder_of(tmp_path / "other", 2)
    into = tmp_path / "into"
    first = merge(into, [one, other])
    before = {file: file.read_bytes() for file in into.rglob("*") if file.is_file()}
    again = merge(into, [one, other, one])
    assert first.copied == len(before) - 1  # the .gitignore of a new folder
    assert (again.copied, again.extended) == (0, 0)
    assert {file: file.read_bytes() for file in into.rglob("*") if file.is_file()} == before
    assert sorted(results.load(into)["seed"]) == [0, 1, 2]
    assert not list(into.rglob("*.partial"))


def test_a_run_that_went_on_elsewhere_is_extended_and_never_shortened(tmp_path: Path) -> None:
    whole = folder_of(tmp_path / "whole", 0, 1, 2)
    early = tmp_path / "early"
    shutil.copytree(whole, early)
    (file,) = early.rglob("*.jsonl")
    content = file.read_bytes()
    for cut in range(0, len(content), 997):
        file.write_bytes(content[:cut])
        into = tmp_path / f"into-{cut}"
        merge(into, [early])
        assert merge(into, [whole]).extended == 1
        assert merge(into, [early]).extended == 0
        assert next(into.rglob("*.jsonl")).read_bytes() == content


def test_one_run_with_two_contents_and_a_changed_object_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", 0)
    edited = tmp_path / "edited"
    shutil.copytree(one, edited)
    (file,) = edited.rglob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"accuracy":0.75', b'"accuracy":0.99'))
    into = tmp_path / "into"
    merge(into, [one])
    before = next(into.rglob("*.jsonl")).read_bytes()
    with pytest.raises(Refused, match="belong to one run but differ"):
        merge(into, [folder_of(tmp_path / "third", 5), edited])
    assert next(into.rglob("*.jsonl")).read_bytes() == before
    assert len(list(into.rglob("*.jsonl"))) == 1
    thing = next((one / "objects").rglob("*.json"))
    thing.write_bytes(thing.read_bytes() + b" ")
    with pytest.raises(Refused, match="was changed after it was written"):
        merge(tmp_path / "new", [one])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("longer", [False, True])
def test_two_sources_with_one_run_and_two_contents_are_refused_in_either_order(tmp_path: Path, longer: bool) -> None:
    one = folder_of(tmp_path / "one", 0)
    other = tmp_path / "other"
    shutil.copytree(one, other)
    (file,) = other.rglob("*.jsonl")
    tail = b'{"row":"else"}\n' if longer else b""
    file.write_bytes(file.read_bytes().replace(b'"accuracy":0.75', b'"accuracy":0.99') + tail)
    for sources in ([one, other], [other, one]):
        with pytest.raises(Refused, match="belong to one run but differ"):
            merge(tmp_path / "into", sources)
    assert not (tmp_path / "into").exists()


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", 0)
    into = tmp_path / "into"
    merge(into, [one])
    with unfinished_run(into), pytest.raises(Refused, match="is being written"):
        merge(into, [one])


@contextmanager
def unfinished_run(folder: Path) -> Iterator[None]:
    (file,) = folder.rglob("*.jsonl")
    with file.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def test_the_command_says_what_it_did_and_refuses_a_folder_without_runs(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", 0)
    into = ("--results", tmp_path / "into")
    assert "files copied, 0 extended, 0 unchanged" in invoke("merge", one, *into).output
    assert "holds no runs" in refused("merge", tmp_path / "nowhere", *into)


def test_a_source_whose_figures_do_not_follow_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    made = tmp_path / "made"
    logits, labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]], np.array([0, 1, 1, 1])
    with open_run(made, command=["run"], planned=(), machine=MACHINE, environment={}) as run:
        loss = float(np.log1p(np.exp(-1.0)) + 0.25)
        record = replace(build(), logits=run.put_arrays({"logits": logits, "labels": labels}))
        run.append(replace(record, test=Quality(accuracy=0.75, loss=loss, images=4)))
        run.finish()
    into = ("--results", tmp_path / "into")
    assert invoke("merge", folder_of(tmp_path / "one", 1), made, *into).exit_code == 0
    edited = tmp_path / "edited"
    shutil.copytree(made, edited)
    (file,) = edited.rglob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"test":{"accuracy":0.75', b'"test":{"accuracy":1.0'))
    done = invoke("merge", folder_of(tmp_path / "other", 2), edited, "--results", tmp_path / "new")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{edited} failed its verification, so nothing was merged: ")
    assert "accuracy is 1, but the raw rows give 0.75" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("line", [b"not a row\n", b'{"row":"process","schema":2}\n'])
def test_a_source_with_a_row_that_cannot_be_read_is_named(line: bytes, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", 0)
    (file,) = one.rglob("*.jsonl")
    file.write_bytes(file.read_bytes() + line)
    done = invoke("merge", one, "--results", tmp_path / "into")
    assert done.exit_code in (1, 2)
    (said,) = done.stderr.splitlines()[-1:]
    assert str(one) in said
    assert "nothing was merged" in said
    assert not (tmp_path / "into").exists()


def test_an_interrupted_run_is_merged_although_it_lacks_cases(tmp_path: Path) -> None:
    one = tmp_path / "one"
    with open_run(one, command=["run"], planned=("a", "b"), machine=MACHINE, environment={}) as run:
        run.append(build())
    assert invoke("merge", one, "--results", tmp_path / "into").exit_code == 0
    assert results.load(tmp_path / "into").attrs["missing"]


def test_rows_of_schema_1_are_read_as_they_were_written(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "m1"
    runs.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "stored" / "schema-1.jsonl", runs / "01.jsonl")
    frame = results.load(tmp_path)
    assert frame["status"].tolist() == ["ok", "ok", "skipped"]
    assert frame["accuracy"].tolist()[:2] == [0.75, 0.75]
    assert frame["arm"].isna().all()
    assert frame.attrs["warnings"] == []
    assert results.table(frame)["runs"].tolist() == [2, 1]
