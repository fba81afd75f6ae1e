from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.clock import NotFinite
from harness.errors import Declined, Refused
from harness.process.launch import Outcome, launch
from harness.process.worker import classify

ROOT = Path(__file__).resolve().parents[3]


class OutOfMemoryError(RuntimeError):
    """As torch's and CuPy's are called."""


class ResourceExhaustedError(Exception):
    """As TensorFlow's is called."""


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Declined("no GPU here"), "skipped", "no GPU here"),
        (Refused("the folder\n is empty"), "refused", "the folder is empty"),
        (MemoryError(), "oom", "out of memory: "),
        (MemoryError("Unable to allocate 8 GiB"), "oom", "out of memory: Unable to allocate 8 GiB"),
        (OutOfMemoryError("CUDA out of memory"), "oom", "out of memory: CUDA out of memory"),
        (ResourceExhaustedError("OOM when allocating"), "oom", "out of memory: OOM when allocating"),
        (RuntimeError("[enforce fail] can't allocate memory: you"), "oom", None),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), "oom", None),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "skipped", "torch is not installed"),
        (ModuleNotFoundError("No module named 'torch.x'", name="torch.x"), "skipped", "torch.x is not installed"),
        (ModuleNotFoundError("No module named 'harness.x'", name="harness.x"), "failed", None),
        (NotFinite("loss is not finite at step 3"), "failed", "loss is not finite at step 3"),
        (ValueError("bad\n\n  shape"), "failed", "ValueError: bad shape"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_becomes_one_word_and_one_line(error: BaseException, status: str, reason: str | None) -> None:
    found = classify(error)
    assert found[0] == status
    assert "\n" not in found[1]
    assert reason is None or found[1] == reason


def test_a_reason_is_no_longer_than_a_row_can_bear() -> None:
    assert len(classify(ValueError("x" * 10_000))[1]) < 600
    assert len(classify(Refused("x" * 10_000))[1]) == 2000


@pytest.mark.parametrize("kind", [Declined, Refused])
def test_a_line_of_ours_keeps_its_end_which_says_what_to_do(kind: type[Exception]) -> None:
    line = f"fetch {'https://a.example/' + 'x' * 300} and put it at {'/y' * 200}"
    assert classify(kind(line))[1] == line


def run(function: str, folder: Path, **arguments: Any) -> Outcome:
    return launch(f"tests.harness.jobs:{function}", arguments, folder=folder, timeout_s=60)


@pytest.mark.parametrize(
    ("kind", "ending"), [("Declined", "skipped"), ("Refused", "refused"), ("ValueError", "failed")]
)
def test_what_a_job_raises_is_its_ending_and_the_trace_is_in_the_log(tmp_path: Path, kind: str, ending: str) -> None:
    outcome = run("raise_error", tmp_path, kind=kind, message="so it is")
    assert (outcome.ending, outcome.reason.removeprefix("ValueError: ")) == (ending, "so it is")
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" in log
    assert "jobs.py" in log


def test_a_foreign_module_that_is_not_installed_is_skipped(tmp_path: Path) -> None:
    outcome = run("import_missing", tmp_path, module="tensorflow_of_tomorrow")
    assert (outcome.ending, outcome.reason) == ("skipped", "tensorflow_of_tomorrow is not installed")


def test_one_of_our_own_modules_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    assert run("import_missing", tmp_path, module="backends.nothing").ending == "failed"


def test_an_answer_that_is_no_json_is_a_failure(tmp_path: Path) -> None:
    outcome = run("not_json", tmp_path)
    assert outcome.ending == "failed"
    assert outcome.reason.startswith("TypeError")


def test_arguments_that_the_function_does_not_take_are_a_failure(tmp_path: Path) -> None:
    outcome = run("add", tmp_path, left=1, centre=2)
    assert outcome.ending == "failed"
    assert "centre" in outcome.reason


def test_a_worker_whose_parent_is_already_gone_does_nothing(tmp_path: Path) -> None:
    job = {
        "call": "tests.harness.jobs:add", "arguments": {"left": 1, "right": 1}, "events": 1, "parent": 1, "started": 0.0
    }  # fmt: skip
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    done = subprocess.run(
        [sys.executable, "-m", "harness.entry", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert not (tmp_path / "result.json").exists()
