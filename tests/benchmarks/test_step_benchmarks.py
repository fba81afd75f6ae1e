"""`pytest benchmarks`: steps by pytest-benchmark, stored where and as pytest-benchmark itself reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.commanding import ROOT


def pytest_benchmarks(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pytest", str(ROOT / "benchmarks"), "-c", str(ROOT / "pyproject.toml"), *options)
    # Started from one of several test processes, it would not time anything.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where steps of the reference backend were timed."""
    folder = tmp_path_factory.mktemp("steps")
    done = pytest_benchmarks(folder, "--backend", "reference", "--image-size", "32", "--batch-size", "4")
    assert done.returncode == 0, done.stdout
    return folder


def test_a_training_and_a_prediction_step_per_model_are_stored_in_the_results_folder(measured: Path) -> None:
    (file,) = (measured / "bench-results" / "steps").rglob("*_reference.json")
    benchmarks = msgspec.json.decode(file.read_bytes())["benchmarks"]
    assert [one["name"] for one in benchmarks] == ["test_training_step[tiny-cnn]", "test_prediction_step[tiny-cnn]"]
    assert all(one["extra_info"] == {"images": 4} and one["stats"]["rounds"] == 20 for one in benchmarks)
    assert (measured / "bench-results" / ".gitignore").exists()


def test_pytest_benchmark_compares_what_was_stored(measured: Path) -> None:
    tool = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run(
        [tool, "--storage", "bench-results/steps", "compare"], cwd=measured, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "test_training_step[tiny-cnn]" in done.stdout
    assert "test_prediction_step[tiny-cnn]" in done.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--backend", "pytorhc"), "no backend pytorhc (did you mean pytorch"),
        (("--backend", "reference", "--model", "tiny-cn"), "no model tiny-cn (did you mean tiny-cnn"),
        (("--backend", "keras3", "--engine", "jaxx"), "no keras3 engine jaxx (did you mean jax"),
    ],
)
def test_an_unknown_name_is_wrong_usage_with_the_nearest(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    done = pytest_benchmarks(tmp_path, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert line in done.stderr
