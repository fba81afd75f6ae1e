"""What a run leaves on the disk, whatever happens to it."""

from __future__ import annotations

import multiprocessing
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import Refused
from harness.process.machine import Machine
from harness.running.record import Record
from results.storage.folder import Unwritable
from results.storage.objects import get_arrays, get_json, put_json
from results.storage.rows import EndRow, ProcessRow, RunRow, record_at, scan
from results.storage.run_files import RunWriter, Unfinished, open_run, unfinished
from tests.results.records import MACHINE, build


def start(folder: Path, planned: tuple[str, ...] = (), resume: Unfinished | None = None) -> RunWriter:
    return open_run(
        folder, command=("run", "--suite", "smoke"), planned=planned, machine=MACHINE, environment={"system": "Linux"},
        resume=resume,
    )  # fmt: skip


def rows(path: Path) -> list[Record]:
    return [line.row.record for line in scan(path) if isinstance(line.row, ProcessRow)]


def write(folder: Path, seed: int, status: str = "ok") -> None:
    with start(folder) as run:
        for scenario in ("full", "freeze-conv", "two-stage"):
            run.append(build(seed=seed, scenario=scenario, status=status))
        run.finish()


records = st.builds(
    build,
    scenario=st.text(st.characters(codec="utf-8"), max_size=20),
    reason=st.text(st.characters(codec="utf-8"), max_size=50),
    accuracy=st.floats(0, 1),
    step_us=st.integers(1, 10**9),
    curve=st.lists(st.floats(0, 1), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 99),
    status=st.sampled_from(["ok", "skipped", "failed", "timeout"]),
)


@given(written=st.lists(records, max_size=4))
@settings(max_examples=25)
def test_what_is_read_is_what_was_written(written: list[Record], tmp_path_factory: pytest.TempPathFactory) -> None:
    with start(tmp_path_factory.mktemp("results")) as run:
        for record in written:
            run.append(record)
        run.finish()
    assert rows(run.path) == written
    assert all(record_at(run.path, line.offset) for line in scan(run.path) if isinstance(line.row, ProcessRow))


def test_a_file_lies_under_its_machine_year_and_month(tmp_path: Path) -> None:
    run = start(tmp_path, planned=("k1", "k2"))
    run.finish()
    machine, year, month, name = run.path.relative_to(tmp_path / "runs").parts
    assert machine == MACHINE.key
    assert (len(year), len(month), name) == (4, 2, f"{run.run}.jsonl")
    first, last = (line.row for line in scan(run.path))
    assert isinstance(first, RunRow)
    assert isinstance(last, EndRow)
    assert first.planned == ("k1", "k2")
    assert get_json(tmp_path, first.machine)["cpu"] == "Testor 1"
    assert get_json(tmp_path, first.environment) == {"system": "Linux"}


def test_a_file_cut_at_any_byte_holds_the_rows_before_the_cut(tmp_path: Path) -> None:
    write(tmp_path, seed=0, status="skipped")
    (path,) = tmp_path.rglob("*.jsonl")
    content, lines = path.read_bytes(), list(scan(path))
    ends = [*(line.offset for line in lines), len(content)][1:]
    for size in range(len(content), -1, -1):
        os.truncate(path, size)
        whole = sum(end <= size for end in ends)
        kept = list(scan(path))
        assert kept[:whole] == lines[:whole]
        assert all(line.fault == "cut" for line in kept[whole:])


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_cut_at_any_byte_resumes_to_the_same_records(data: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / data.draw(st.uuids()).hex
    everything = [build(scenario=name) for name in ("full", "freeze-conv", "two-stage")]
    with start(folder, planned=tuple(record.key for record in everything)) as run:
        head = run.path.stat().st_size
        for record in everything:
            run.append(record)
    content = run.path.read_bytes()
    run.path.write_bytes(content[: data.draw(st.integers(head, len(content)))])
    found = unfinished(folder)
    assert found is not None
    with start(folder, resume=found) as again:
        for record in everything:
            if record.key not in found.done:
                again.append(record)
        again.finish()
    assert again.path == run.path
    assert rows(run.path) == everything
    assert unfinished(folder) is None


def test_only_runs_without_an_end_or_interrupted_ones_are_unfinished(tmp_path: Path) -> None:
    assert unfinished(tmp_path) is None
    write(tmp_path, seed=0)
    assert unfinished(tmp_path) is None
    with start(tmp_path) as run:
        run.append(build())
        run.append(build(scenario="scratch", status="interrupted"))
        run.finish("interrupted")
    write(tmp_path, seed=1)
    found = unfinished(tmp_path)
    assert found is not None
    assert found.path == run.path
    assert found.done == {build().key}
    assert unfinished(tmp_path, Machine(cpu="x", cores=1, memory_gib=1, gpus=(), architecture="y")) is None


def test_a_run_that_is_being_written_is_neither_unfinished_nor_resumed(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        assert unfinished(tmp_path) is None
        row = next(scan(run.path)).row
        assert isinstance(row, RunRow)
        with pytest.raises(Refused, match="another process"):
            start(tmp_path, resume=Unfinished(run.path, row, {}))
    assert unfinished(tmp_path) is not None


def test_two_runs_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(tmp_path, seed)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seen = sorted(record.case.seed for path in tmp_path.rglob("*.jsonl") for record in rows(path))
    assert seen == [1, 1, 1, 2, 2, 2]


def test_objects_are_written_once_and_noticed_when_edited(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        arrays = {"logits": np.ones((3, 2), np.float32), "labels": np.arange(3)}
        name = run.put_arrays(arrays)
        assert run.put_arrays(dict(reversed(arrays.items()))) == name
        back = get_arrays(tmp_path, name)
    assert all((back[key] == arrays[key]).all() and back[key].dtype == arrays[key].dtype for key in arrays)
    text = put_json(tmp_path, {"b": 1, "a": [2]})
    (path,) = tmp_path.rglob(f"{text}.json")
    before = path.stat().st_mtime_ns
    assert put_json(tmp_path, {"a": [2], "b": 1}) == text
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"{}")
    with pytest.raises(Refused, match="was changed"):
        get_json(tmp_path, text)
    with pytest.raises(Refused, match="is missing"):
        get_json(tmp_path, "0" * 64)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    place = tmp_path / "a file"
    place.write_text("")
    with pytest.raises(Unwritable, match="--results") as caught:
        start(place / "results")
    assert "\n" not in str(caught.value)


def _append_until_full(folder: Path) -> None:
    with start(folder) as run:
        run.append(build(seed=1))
        size = run.path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        with pytest.raises(Unwritable, match="cannot write results"):
            run.append(build(seed=2))
        with pytest.raises(Unwritable):
            run.put_arrays({"logits": np.zeros(10_000)})
        assert run.path.stat().st_size == size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        run.append(build(seed=3))


def test_a_full_disk_costs_only_the_row_that_did_not_fit(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_append_until_full, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    (path,) = tmp_path.rglob("*.jsonl")
    assert [record.case.seed for record in rows(path)] == [1, 3]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_record_that_json_cannot_hold_is_an_error_when_written(tmp_path: Path) -> None:
    with start(tmp_path) as run, pytest.raises(ValueError, match="finite"):
        run.append(build(curve=(float("nan"),)))
    assert rows(run.path) == []


def test_a_comparison_that_was_cut_short_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    with start(tmp_path, planned=("k1",)) as run:
        run.append(build())
    with start(tmp_path) as comparing:
        comparing.append_of_side(build(seed=1), "c1", "A")
    found = unfinished(tmp_path)
    assert found is not None
    assert found.path == run.path


def test_a_case_whose_first_attempt_on_a_cluster_was_lost_is_not_done(tmp_path: Path) -> None:
    lost = build(status="killed", reason="the node is gone")
    for attempt, done in ((1, False), (2, True)):
        with start(tmp_path / str(attempt)) as writer:
            writer.append(lost, node="10.0.0.7:1", attempt=attempt)
        found = unfinished(tmp_path / str(attempt))
        assert found is not None
        assert (lost.key in found.done) is done
