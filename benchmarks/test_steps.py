"""Time one training step and one prediction step per model of the chosen backend (see conftest)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.studies.stepping import Stepper, feed_of
from harness import PREFIX
from harness.contract import Backend, Model, Session
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import normalise
from harness.process.machine import measuring_threads
from harness.spec import Case, Scenario, Stage

CLASSES = 8
ROUNDS, WARMUP_ROUNDS = 20, 3


@pytest.fixture(scope="module")
def session(model: Model, pytestconfig: pytest.Config) -> Iterator[Session]:
    """Open the model on a CPU, with the weights that its framework gives it."""
    backend = cast(Backend, importlib.import_module(f"{PREFIX}backends.{pytestconfig.getoption('backend')}"))
    case = Case(
        backend=pytestconfig.getoption("backend"),
        engine=pytestconfig.getoption("engine") or next(iter(backend.ENGINES), None),
        model=model.name,
        scenario=Scenario(name="full", explanation="", stages=(_stage(pytestconfig),)),
        dataset="random pixels",
        dataset_sha256="",
        image_size=pytestconfig.getoption("image_size"),
        threads=measuring_threads(),
    )
    reason = backend.decline(case)
    if reason:
        pytest.skip(reason)
    yield backend.open_session(case, model, CLASSES)


def test_training_step(session: Session, pytestconfig: pytest.Config, benchmark: BenchmarkFixture) -> None:
    stage = _stage(pytestconfig)
    feed = feed_of(_pixels(pytestconfig), stage, pytestconfig.getoption("image_size"), session)
    with Stepper(session, stage, feed) as stepper:
        benchmark.pedantic(stepper.step, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    benchmark.extra_info["images"] = stage.batch_size


def test_prediction_step(session: Session, pytestconfig: pytest.Config, benchmark: BenchmarkFixture) -> None:
    pixels = _pixels(pytestconfig).images[: pytestconfig.getoption("batch_size")]
    images = normalise(pixels, NORMALISATIONS["imagenet"], session.batch_layout)
    logits = benchmark.pedantic(session.predict, args=(images,), rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    benchmark.extra_info["images"] = len(images)
    assert logits.shape == (len(images), CLASSES)


def _stage(config: pytest.Config) -> Stage:
    return Stage(epochs=1, head_lr=1e-4, backbone_lr=1e-4, batch_size=config.getoption("batch_size"))


def _pixels(config: pytest.Config) -> Split:
    count, side = config.getoption("batch_size") * (ROUNDS + WARMUP_ROUNDS + 2), config.getoption("image_size")
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    return Split(pixels, labels, np.arange(count))
