"""Formulas of well-known harnesses: their answer for a run, the true answer, and the message of this harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np
from numpy.typing import NDArray

import results.tables.figures
from benchmarks.selftest.experiments import Experiment, ExperimentRunner, ExperimentSetting
from benchmarks.selftest.machine import MS
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace
from benchmarks.selftest.sins.training import shifted_schedule
from harness.data.feed import Batch
from harness.rules import Breach
from harness.running.evaluate import BATCH_SIZE, Evaluator, quality
from harness.running.record import Quality, Record, StageRecord
from harness.spec import Stage

HIDDEN_NS = 40 * MS


class NaiveResult(msgspec.Struct, frozen=True, kw_only=True):
    """A formula's answer for a run, the true answer, and the message of this harness."""

    name: str
    naive: str
    true: str
    message: str

    @property
    def holds(self) -> bool:
        """Whether the naive answer is wrong and this harness reports it."""
        return self.naive != self.true and bool(self.message)


class NaiveFormula(NamedTuple):
    """A formula and a run for which it is wrong. `naive` and `true` use the records of both backends."""

    name: str
    rule: str
    setting: ExperimentSetting
    plant: Callable[[], Any]
    naive: Callable[[Record, Record], str]
    true: Callable[[Record, Record], str]


def show(runner: ExperimentRunner) -> list[NaiveResult]:
    """Return the answer of every formula."""
    shown = []
    for formula in NAIVE_FORMULAS:
        experiment = Experiment(formula.setting, formula.plant)
        breaches = (one for one in runner.judge(experiment) if isinstance(one, Breach))
        message = next((str(one) for one in breaches if one.rule == formula.rule), "")
        naive, true = formula.naive(*experiment.records), formula.true(*experiment.records)
        shown.append(NaiveResult(name=formula.name, naive=naive, true=true, message=message))
    return shown


def steps_times_batch_over_mean_latency(stages: Sequence[StageRecord]) -> float:
    """Divide the number of all images by the mean time of one step."""
    images = sum(window.images for stage in stages for window in stage.windows)
    return images / (float(np.mean([step for stage in stages for step in stage.step_us])) / 1e6)


@contextmanager
def _dividing() -> Iterator[None]:
    with patch.object(results.tables.figures, "_throughput", steps_times_batch_over_mean_latency):
        yield


@contextmanager
def _hidden_forward() -> Iterator[None]:
    """Run a further forward pass for the accuracy of each batch, inside the timed step."""

    class Metering(SimulatedSession):
        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.network.forward(batch.inputs, training=True)
            self.machine.spend(HIDDEN_NS)
            return super().step(batch, stage, factor)

    with second_backend(Metering):
        yield


def equal_at_the_end(first: Record, second: Record) -> bool:
    """Compare the last losses with `allclose` and a relative tolerance of 1."""
    return bool(np.allclose(first.stages[-1].losses[-1], second.stages[-1].losses[-1], rtol=1))


@contextmanager
def _divided_by_samples() -> Iterator[None]:
    """Divide the sum of the means over batches by the number of samples."""

    def judge(self: Evaluator, logits: NDArray[np.float32], split: str) -> Quality:
        labels = self.split(split).labels
        starts = range(0, len(labels), BATCH_SIZE)
        parts = [quality(logits[i : i + BATCH_SIZE], labels[i : i + BATCH_SIZE]) for i in starts]
        whole = quality(logits, labels)
        return Quality(loss=sum(p.loss for p in parts) / len(labels), accuracy=whole.accuracy, images=whole.images)

    with patch.object(Evaluator, "judge", judge):
        yield


def _rate(record: Record) -> str:
    return f"{results.tables.figures.measure(record)['throughput']:.4g} images/s"


def _loss(record: Record) -> str:
    return f"a loss of {record.test.loss:.3g}" if record.test else ""


def _timed(record: Record) -> str:
    window = next(window for window in record.stages[0].windows if window.kind == "throughput")
    return f"{window.images / window.seconds:.4g} images/s, without a problem"


NAIVE_FORMULAS = (
    NaiveFormula(
        "steps × batch ÷ mean step latency",
        "V51",
        ExperimentSetting(),
        _dividing,
        naive=lambda first, second: f"{steps_times_batch_over_mean_latency(second.stages):.4g} images/s",
        true=lambda first, second: _rate(second),
    ),
    NaiveFormula(
        "a forward hidden in the timed step",
        "V07",
        ExperimentSetting(),
        _hidden_forward,
        naive=lambda first, second: _timed(second),
        true=lambda first, second: f"{_rate(first)} without it",
    ),
    NaiveFormula(
        "equality with rtol=1 on the last step only",
        "V05",
        ExperimentSetting(certified=True),
        lambda: shifted_schedule.plant(SinPlace(gross=True, draw=np.random.default_rng(0))),
        naive=lambda first, second: "equal" if equal_at_the_end(first, second) else "unequal",
        true=lambda first, second: "unequal: the schedules are three steps apart",
    ),
    NaiveFormula(
        "a loss divided by samples after a mean over batches",
        "V23",
        ExperimentSetting(),
        _divided_by_samples,
        naive=lambda first, second: _loss(second),
        true=lambda first, second: _loss(first),
    ),
)
