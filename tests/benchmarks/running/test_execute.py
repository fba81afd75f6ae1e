from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.datasets.writing import PreparedDataset
from benchmarks.preparing.plan import PlannedCase
from benchmarks.running.execute import execute, exit_code
from harness.process.machine import Machine
from harness.running.record import Record, Status
from harness.spec import Job
from results.storage.folder import Unwritable
from results.storage.objects import get_arrays
from results.storage.run_files import RunWriter, open_run
from tests.benchmarks.commanding import endings, records
from tests.harness.cases import STAGE, scenario, tiny_case
from tests.results.records import MACHINE

MISBEHAVING = """
import ctypes, os, resource, signal, sys, time
import numpy as np
from backends.reference.network import tiny_cnn
from harness.contract import Model

def crash(dtype):
    ctypes.string_at(0)

def eat(dtype):
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    return np.empty(2**36, np.uint8), 1

def hang(dtype):
    time.sleep(600)

def vanish(dtype):
    os.kill(os.getpid(), signal.SIGKILL)

def leave(dtype):
    sys.exit(5)

def talk(dtype):
    print('{"row": "end"}')
    os.write(2, b"to stderr")
    return tiny_cnn(dtype)

def stumble(dtype):
    raise ValueError("not this way")

MODELS = {"reference": [Model(name=f.__name__, build=f, classifier="classifier.", blocks=3)
                        for f in (crash, eat, hang, vanish, leave, talk, stumble)]}
"""


Started = Callable[[], list[psutil.Process]]


@pytest.fixture
def started() -> Started:
    """The processes of this test: tests that are not done yet have theirs, too."""
    others = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in others]


@pytest.fixture
def run(tiny_dataset: PreparedDataset, tmp_path: Path) -> Iterator[Callable[..., list[Record]]]:
    """Executes cases of models that misbehave, or of tiny-cnn; stores them under `tmp_path / "results"`."""
    plugin = tmp_path / "misbehaving.py"
    plugin.write_text(MISBEHAVING)
    with open_run(tmp_path / "results", command=["run"], planned=[], machine=MACHINE, environment={}) as writer:

        def executed(*models: str, timeout_s: float = 60, on_event: Any = lambda event: None) -> list[Record]:
            plan = [planned(model, tiny_dataset, plugin) for model in models]
            return execute(plan, writer, MACHINE, timeout_s, on_event)

        yield executed


def planned(model: str, data: PreparedDataset, plugin: Path, **case: Any) -> PlannedCase:
    from msgspec.structs import replace

    made = replace(tiny_case(data, **case), model=model)
    return PlannedCase(made, Job(case=made, dataset_path=str(data.folder), plugins=(str(plugin),)))


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("crash", "failed", "crashed in native code (SIGSEGV)"),
        ("eat", "oom", "out of memory: Unable to allocate 64.0 GiB"),
        ("vanish", "killed", "killed from outside (SIGKILL)"),
        ("leave", "failed", "exited with 5"),
        ("stumble", "failed", "ValueError: not this way"),
    ],
)
def test_a_case_that_goes_wrong_is_a_record_with_its_log_and_the_next_one_runs(
    run: Callable[..., list[Record]], tmp_path: Path, model: str, status: Status, reason: str
) -> None:
    wrong, right = run(model, "tiny-cnn")
    assert wrong.status == status
    assert wrong.reason.startswith(reason)
    assert Path(wrong.artefacts["log"]).is_file()
    assert wrong.total_s > 0
    assert right.status == "ok"
    assert records(tmp_path / "results") == [wrong, right]
    assert exit_code([wrong, right], wanted_by_name=False) == 3


def test_a_case_that_hangs_is_ended_and_the_next_one_runs(run: Callable[..., list[Record]]) -> None:
    (hung,) = run("hang", timeout_s=3)
    assert (hung.status, hung.reason) == ("timeout", "not finished after 3 s")
    assert 3 <= hung.total_s < 8
    (right,) = run("tiny-cnn")
    assert right.status == "ok"


def test_what_a_case_prints_is_no_row(run: Callable[..., list[Record]], tmp_path: Path, capfd: Any) -> None:
    (record,) = run("talk")
    assert record.status == "ok"
    assert endings(tmp_path / "results") == []
    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_while_it_trains_is_a_killed_record(run: Callable[..., list[Record]], started: Started) -> None:
    def kill(event: dict[str, Any]) -> None:
        if "epoch" in event:
            (worker,) = started()
            os.kill(worker.pid, signal.SIGKILL)

    (record,) = run("tiny-cnn", on_event=kill)
    assert (record.status, record.reason) == ("killed", "killed from outside (SIGKILL)")


def test_a_case_that_cannot_run_here_is_skipped_without_a_process(
    tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    plan = [PlannedCase(tiny_case(tiny_dataset), None, "no GPU here")]
    with writer(tmp_path) as file:
        (record,) = execute(plan, file, MACHINE, 60, lambda event: None)
    assert (record.status, record.reason, record.machine) == ("skipped", "no GPU here", MACHINE.key)


def test_logits_are_stored_beside_the_record(run: Callable[..., list[Record]], tmp_path: Path) -> None:
    (record,) = run("tiny-cnn")
    assert record.logits is not None
    stored = get_arrays(tmp_path / "results", record.logits)
    assert stored["logits"].shape == (24, 3)
    assert record.test is not None
    assert (stored["logits"].argmax(axis=1) == stored["labels"]).mean() == record.test.accuracy


def test_beginning_epochs_and_end_of_a_case_are_told(run: Callable[..., list[Record]]) -> None:
    events: list[dict[str, Any]] = []
    (record,) = run("tiny-cnn", on_event=events.append)
    assert events[0] == {"begin": record.case.label}
    assert [event["epoch"] for event in events if "epoch" in event] == [1, 2]
    assert events[-1] == {"end": record}


def test_an_interrupt_leaves_a_record_that_says_so_and_no_worker(
    run: Callable[..., list[Record]], started: Started, tmp_path: Path
) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if "epoch" in event:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("tiny-cnn", "tiny-cnn", on_event=interrupt)
    assert [r.status for r in records(tmp_path / "results")] == ["interrupted"]
    assert not [child for child in started() if "harness.entry" in child.cmdline()]


def test_no_scratch_folder_is_left(
    run: Callable[..., list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    run("tiny-cnn", "stumble")
    assert not list(scratch.iterdir())


def test_a_disk_that_has_no_room_for_a_log_is_said_so(tiny_dataset: PreparedDataset, tmp_path: Path) -> None:
    wild = scenario(STAGE, start="checkpoint")
    case = tiny_case(tiny_dataset, scenario=wild)
    job = Job(case=case, dataset_path=str(tmp_path / "nowhere"))
    with writer(tmp_path) as file:
        (tmp_path / "logs").write_text("")
        with pytest.raises(Unwritable, match="cannot write results"):
            execute([PlannedCase(case, job)], file, MACHINE, 60, lambda event: None)


def writer(folder: Path, machine: Machine = MACHINE) -> RunWriter:
    return open_run(folder, command=["run"], planned=[], machine=machine, environment={})


@pytest.mark.parametrize(
    ("statuses", "by_name", "code"),
    [
        (["ok", "ok"], True, 0),
        (["ok", "skipped"], False, 0),
        (["ok", "skipped"], True, 3),
        (["skipped"], False, 3),
        (["ok", "failed"], False, 3),
        (["ok", "timeout"], False, 3),
        (["ok", "oom"], False, 3),
        (["ok", "killed"], False, 3),
        (["ok", "interrupted"], False, 3),
        ([], False, 3),
    ],
)
def test_V50_the_exit_code_follows_from_the_statuses(
    tiny_dataset: PreparedDataset, statuses: list[Status], by_name: bool, code: int
) -> None:
    case = tiny_case(tiny_dataset)
    assert exit_code([Record(case=case, key="", version="", status=s) for s in statuses], by_name) == code
