"""Runs as processes of their own: interrupted, resumed, two at once, in want of disk, and how little the parent is."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from results.storage.rows import RunRow
from tests.benchmarks.commanding import ROOT, SMALL, endings, invoke, records, refused, rows, start

LONG = ("run", *SMALL, "--scenario", "scratch", "--seeds", "3", "--epochs", "40")
"""Three cases of about a second each."""


def lines_until(process: subprocess.Popen[str], word: str) -> Iterator[str]:
    """What the process writes to stderr, up to the line that holds the word."""
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        if word in line:
            return
    raise AssertionError(f"{word} never came")


def test_ctrl_c_keeps_what_is_done_and_resume_runs_only_what_is_missing(images: Path, tmp_path: Path) -> None:
    command = (*LONG, "--data", images, "--results", tmp_path)
    process = start(*command)
    list(lines_until(process, "[1/3]"))
    worker = a_child_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "--resume continues the run" in errors
    assert "Traceback" not in errors + output
    assert [r.status for r in records(tmp_path)] == ["ok", "interrupted"]
    assert endings(tmp_path) == ["interrupted"]
    assert _is_gone(worker)

    resumed = invoke(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert [r.status for r in records(tmp_path)] == ["ok", "interrupted", "ok", "ok"]
    assert endings(tmp_path) == ["interrupted", "done"]
    (first,) = [row for row in rows(tmp_path) if isinstance(row, RunRow)]
    assert {r.key for r in records(tmp_path) if r.status == "ok"} == set(first.planned)
    assert "no unfinished run" in refused(*command, "--resume")


def _is_gone(worker: int) -> bool:
    """One that was caught while it started ends by itself, as soon as it sees that its parent is gone."""
    end = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < end:
        time.sleep(0.05)
    return not psutil.pid_exists(worker)


def a_child_of(pid: int) -> int:
    """The worker that measures now, as soon as there is one."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for child in psutil.Process(pid).children():
            return child.pid
        time.sleep(0.01)
    raise AssertionError("no worker came")


def test_a_run_whose_parent_was_killed_resumes_after_its_last_whole_row(images: Path, tmp_path: Path) -> None:
    command = (*LONG, "--data", images, "--results", tmp_path)
    process = start(*command)
    list(lines_until(process, "[1/3]"))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    (file,) = tmp_path.rglob("*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'{"row":"process","schema":1,"run":"01')  # the row that was being written
    assert endings(tmp_path) == []
    resumed = invoke(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert [r.case.seed for r in records(tmp_path)] == [0, 1, 2]
    assert endings(tmp_path) == ["done"]


def test_two_runs_writing_at_once_lose_nothing(images: Path, tmp_path: Path) -> None:
    command = (
        "run",
        *SMALL,
        "--scenario",
        "scratch",
        "--data",
        images,
        "--results",
        tmp_path,
        "--seeds",
        "2",
        "--quiet",
    )
    both = [start(*command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    for process in both:
        process.communicate()
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert [r.status for r in records(tmp_path)] == ["ok"] * 4
    assert endings(tmp_path) == ["done", "done"]


def test_a_full_disk_ends_the_run_with_2_and_keeps_every_whole_row(images: Path, tmp_path: Path) -> None:
    process = start(*LONG, "--data", images, "--results", tmp_path)
    list(lines_until(process, "[1/3]"))
    (file,) = tmp_path.rglob("*.jsonl")
    limit = file.stat().st_size + 100
    # As a full disk would, in the middle of a run; workers inherit it and cannot write either.
    psutil.Process(process.pid).rlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert f"error: cannot write results to {tmp_path}" in errors
    assert "complete rows are kept" in errors
    assert [r.case.seed for r in records(tmp_path)] == [0]


def test_while_a_worker_measures_the_parent_is_small_sleeps_and_knows_no_framework(tmp_path: Path) -> None:
    command = ["run", "--backend", "reference", "--model", "tiny-cnn", "--scenario", "scratch", "--epochs", "24"]
    code = (
        "import atexit, sys; from benchmarks.cli import main\n"
        "atexit.register(lambda: print('loaded', *sys.modules))\n"
        f"main({[*command, '--no-report', '--results', str(tmp_path)]!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    parent, peak, used = psutil.Process(process.pid), 0, []
    while process.poll() is None:
        if any(_is_measuring(child) for child in parent.children()):
            peak = max(peak, parent.memory_info().rss)
            used.append((time.monotonic(), sum(parent.cpu_times()[:2])))
        time.sleep(0.02)
    loaded = set(process.communicate()[0].splitlines()[-1].split())
    assert process.returncode == 0
    (began, before), (ended, after) = used[0], used[-1]
    assert ended - began > 1
    assert after - before <= 0.005 * (ended - began) + 0.01  # the kernel counts in hundredths of a second
    assert 0 < peak < 200e6
    assert not {"torch", "torchvision", "efficientnet_pytorch", "tensorflow", "keras", "jax"} & loaded


def _is_measuring(child: psutil.Process) -> bool:
    """Whether this worker runs a case, by the folder it was given, and is past its start, by its processor time."""
    try:
        return "finetune-bench-" in child.cmdline()[-1] and sum(child.cpu_times()[:2]) > 0.5
    except (psutil.NoSuchProcess, IndexError):  # it ended meanwhile
        return False


def test_a_place_that_can_hold_no_folder_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "results"
    result = invoke("run", *SMALL, "--scenario", "scratch", "--data", images, "--results", place)
    assert result.exit_code == 2
    assert f"cannot write results to {place}" in result.stderr


def test_a_read_only_folder_is_refused_and_stays_empty(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir(mode=0o555)
    command = ["run", *SMALL, "--scenario", "scratch", "--data", str(images), "--results", str(results)]
    if os.geteuid():
        result = invoke(*command)
        assert (result.exit_code, "Permission denied" in result.stderr) == (2, True)
    else:
        _refused_without_privileges(command)
    assert not list(results.iterdir())


def _refused_without_privileges(command: list[str]) -> None:
    """Root may write anywhere, unless it lays down the capability to."""
    tool = shutil.which("setpriv")
    assert tool is not None, "util-linux is missing"
    drop = [tool, "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    done = subprocess.run(
        [*drop, sys.executable, "-m", "benchmarks", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
