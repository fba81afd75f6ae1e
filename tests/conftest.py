"""What every test shares: quiet thread pools, a cache of its own, and `--no-unexpected-skips` for CI."""

from __future__ import annotations

import gc
import os
import re
import sys

from tests.quickly import FLAGS

os.environ.update({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})  # read when NumPy is imported
os.environ.setdefault("XLA_FLAGS", FLAGS)  # workers that the harness starts see no such variable

from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.datasets.cache import ENVIRONMENT
from benchmarks.datasets.writing import PreparedDataset
from harness import plugins
from harness.process.machine import usable_cores

EXPECTED_SKIPS = {"CUDA": re.compile(r"\bcuda\b", re.IGNORECASE), "../shared": re.compile(re.escape("../shared"))}
"""Reasons for which a test may be skipped in CI, by name. Everything else that is skipped fails the run."""

_skipped: dict[str, str] = {}
_frozen = {"modules": 0}
"""Number of imported modules at the last `gc.freeze`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI insist on every test."""
    names = ", ".join(EXPECTED_SKIPS)
    parser.addoption(
        "--no-unexpected-skips", action="store_true", help=f"fail if a test is skipped for another reason than {names}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`, each of the processes keeps to cores of its own, and so does everything that it starts: workers that
    measure would otherwise all be put on the same ones. On a busy machine an example of a property test may take long.
    """
    if find_spec("hypothesis"):
        from hypothesis import settings

        settings.register_profile("busy machine", deadline=None)
        settings.load_profile("busy machine")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores, processes = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        number = int(worker.removeprefix("gw"))
        os.sched_setaffinity(0, cores[number::processes] or {cores[number % len(cores)]})


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave modules and collected tests out of garbage collection, which some libraries ask for in every call: it took
    a tenth of a second to half a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        _freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Do the same once a test has imported many modules, such as a framework."""
    if len(sys.modules) > _frozen["modules"] + 200:
        _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()
    _frozen["modules"] = len(sys.modules)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note every skipped test with its reason."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped[report.nodeid] = _reason(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note files that were skipped as a whole."""
    if report.skipped:
        _skipped[report.nodeid] = _reason(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run into a failed one if a test was skipped unasked."""
    if session.config.getoption("--no-unexpected-skips") and _unexpected():
        session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tests that should not have been skipped."""
    if config.getoption("--no-unexpected-skips") and _unexpected():
        terminalreporter.section("skipped without leave", red=True)
        for name, reason in _unexpected().items():
            terminalreporter.line(f"{name}: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _unexpected() -> dict[str, str]:
    known = EXPECTED_SKIPS.values()
    return {name: why for name, why in _skipped.items() if not any(pattern.search(why) for pattern in known)}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, unless FINETUNE_BENCH_TEST_CACHE names one to be kept.

    With `-n`, all processes share one: what one of them makes, the others need not make again.
    """
    before = os.environ.get(ENVIRONMENT)
    folder = tmp_path_factory.getbasetemp()
    own = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    os.environ[ENVIRONMENT] = os.environ.get("FINETUNE_BENCH_TEST_CACHE") or str(own)
    yield
    if before is None:
        del os.environ[ENVIRONMENT]
    else:
        os.environ[ENVIRONMENT] = before


@pytest.fixture(autouse=True)
def _plugins_of_one_test() -> Iterator[None]:
    """Forget the plugin files that a test imports: a training on several devices gives them to its other processes."""
    before = set(plugins.loaded())
    yield
    if set(plugins.loaded()) - before:
        for name in [name for name in sys.modules if name.startswith(plugins.FILES)]:
            del sys.modules[name]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` with real data and weights; tests that ask for it are skipped where it is absent."""
    folder = Path(os.environ.get("FINETUNE_BENCH_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip("../shared is not here; set FINETUNE_BENCH_SHARED")
    return folder


@pytest.fixture(scope="session")
def tiny_arrays() -> ArraySet:
    """Three classes told apart by their colour: 48 training, 12 validation and 24 test images of 32 px."""
    return ArraySet(("red", "green", "blue"), {split: coloured(split, n) for split, n in COUNTS.items()}, "test")


COUNTS = {"train": 48, "val": 12, "test": 24}


def coloured(split: str, count: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose channel number `label` is brighter; the same in every process."""
    draw = np.random.Generator(np.random.PCG64([*split.encode()]))
    labels = np.arange(count) % classes
    images = draw.integers(0, 160, (count, 32, 32, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 60
    return images, labels.astype(np.int64)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_arrays: ArraySet, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """`tiny_arrays`, prepared."""
    return prepare_arrays("tiny", tiny_arrays, cache=tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def all_cores() -> Iterator[list[int]]:
    """Every core of this machine, for as long as the test lasts; with `-n` a process has a part of them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield usable_cores()
    os.sched_setaffinity(0, before)
