"""A function in a worker gets typed arguments and gives a typed answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.entry import VERSIONS
from harness.errors import Declined, Refused
from harness.process.ask import ask
from tests.harness import jobs
from tests.harness.jobs import Middle, Span

ROOT = Path(__file__).resolve().parents[3]


def test_arguments_arrive_and_the_answer_returns_as_the_declared_types(tmp_path: Path) -> None:
    found = ask(jobs.middle, {"span": Span(first=1, last=4), "names": ["a", "b"]}, Middle, folder=tmp_path)
    assert found == Middle(2.5, str(tmp_path), ("Span", "tuple"))
    assert (tmp_path / "log.txt").exists()


def test_an_argument_of_another_type_is_a_failure_that_names_it() -> None:
    with pytest.raises(Refused, match=r"ValidationError: Expected `int`, got `str`"):
        ask(jobs.middle, {"span": {"first": "one", "last": 4}, "names": []}, Middle)


def test_an_answer_of_another_type_is_an_error_here() -> None:
    with pytest.raises(msgspec.ValidationError):
        ask(jobs.add, {"left": 1, "right": 2}, Middle)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("Declined", Declined, "so it is"),
        ("Refused", Refused, "so it is"),
        ("ValueError", Refused, "a job: Val"),
    ],
)
def test_it_raises_as_the_worker_ended_and_names_a_job_that_failed(
    kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        ask(jobs.raise_error, {"kind": kind, "message": "so it is"}, type(None), about="a job")


def test_a_stable_name_is_asked_for_as_it_is() -> None:
    assert ask(VERSIONS, {"distributions": ["msgspec"]}, dict[str, str]).keys() >= {"msgspec"}


def test_a_function_of_a_module_that_runs_as_a_program_is_found_under_its_own_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.jobs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'sum': 3}\n"


def test_a_function_that_no_worker_could_import_is_an_error_before_one_starts() -> None:
    with pytest.raises(ValueError, match="is not at the top level of a module"):
        ask(lambda: None, {}, type(None))
