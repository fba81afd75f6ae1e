"""`pytest benchmarks --backend NAME`: one training step and one prediction step per model, by pytest-benchmark.

Each process times one backend, because two frameworks never share a process. Results are stored under
`bench-results/steps`; compare them with `pytest-benchmark --storage bench-results/steps compare`.
"""

from __future__ import annotations

import importlib
import os
from typing import cast

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from harness import PREFIX
from harness.contract import Backend
from harness.errors import unknown
from results.storage.folder import RESULTS, make_folder

STEPS = RESULTS / "steps"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose a backend and its models."""
    group = parser.getgroup("finetune-bench")
    group.addoption("--backend", default="reference", help="backend whose steps are timed (default: reference)")
    group.addoption("--engine", default=None, help="engine of keras3")
    group.addoption("--model", action="append", default=None, help="model to time; default: all of the backend")
    group.addoption("--image-size", type=int, default=64)
    group.addoption("--batch-size", type=int, default=16)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the default storage, and choose the engine of Keras before anything imports Keras."""
    _refuse_unknown(config)
    if config.option.benchmark_storage == "file://./.benchmarks":
        make_folder(RESULTS, STEPS)  # before pytest-benchmark makes it without a .gitignore
        config.option.benchmark_storage = f"file://{STEPS.absolute()}"
    if config.option.benchmark_save is None:
        config.option.benchmark_save = config.getoption("backend")
    engine = config.getoption("engine") or next(iter(_backend(config).ENGINES), None)
    if engine:
        os.environ["KERAS_BACKEND"] = engine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test per model of the backend."""
    if "model" in metafunc.fixturenames:
        offered = _backend(metafunc.config).MODELS
        names = metafunc.config.getoption("model") or list(offered)
        metafunc.parametrize("model", [offered[name] for name in names], ids=names, scope="module")


def _refuse_unknown(config: pytest.Config) -> None:
    known, name = read_catalogue().backends, config.getoption("backend")
    if name not in known:
        raise pytest.UsageError(unknown("backend", name, known))
    facts, engine = known[name], config.getoption("engine")
    if engine is not None and engine not in facts.engines:
        raise pytest.UsageError(unknown(f"{name} engine", engine, facts.engines))
    for model in config.getoption("model") or ():
        if model not in facts.models:
            raise pytest.UsageError(unknown("model", model, facts.models))


def _backend(config: pytest.Config) -> Backend:
    return cast(Backend, importlib.import_module(f"{PREFIX}backends.{config.getoption('backend')}"))
