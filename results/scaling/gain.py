"""The gain from further devices in one comparison: speed-up, efficiency, accuracy, and from how many images it pays."""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

import msgspec

from harness.running.record import Record
from harness.spec import Case
from results.storage.comparison import Comparison, Finding
from results.storage.rows import ProcessRow
from results.storage.windows import training_seconds
from results.verdicts.pair_findings import median_step_us
from results.verdicts.stored_comparisons import StoredComparison

Interval = tuple[float, float, float]
"""A value with the ends of its 95 % interval."""


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """From how many training images, and epochs, a whole process with the further devices is faster.

    `images` is None if that is never so, or not known; `note` says why. Its interval is that of the speed-up alone.
    `start_s` is the time outside training that the further devices cost more, the median over `runs` complete runs.
    """

    images: Interval | None = None
    epochs: Interval | None = None
    start_s: float | None = None
    runs: int = 0
    note: str = ""


class Accuracies(msgspec.Struct, frozen=True, kw_only=True):
    """Mean accuracies of both sides over seeds, and the change in points with its interval."""

    one: float
    other: float
    change: Interval
    seeds: int


class Gain(NamedTuple):
    """One comparison of a first with a further number of devices. `speedup` is None with a `note` that says why."""

    cases: tuple[Case, Case]
    images_per_s: tuple[float, float]
    speedup: Interval | None
    efficiency: Interval | None
    accuracies: Accuracies | None
    note: str = ""

    @property
    def weak(self) -> bool:
        """Whether each device has the batch of the baseline."""
        one, other = (case.scenario.stages[0].batch_size for case in self.cases)
        return one != other

    @property
    def exchange(self) -> Interval | None:
        """The share of a step that one device does not have: exchanges, waiting for each other, shared resources.

        Only weak scaling shows it, where a device computes the same rows in both steps. The three cannot be separated.
        """
        if not self.weak or self.efficiency is None:
            return None
        value, low, high = self.efficiency
        return 1 - value, 1 - high, 1 - low


def gain_of(stored: StoredComparison) -> Gain | None:
    """Return the gain of a comparison of numbers of devices; None without a pair that counts."""
    measured = [pair for pair in stored.pairs if pair.counts]
    if not measured:
        return None
    cases = measured[0].a.case, measured[0].b.case
    one = median(1e6 / median_step_us(pair.a) for pair in measured)
    other = median(1e6 / median_step_us(pair.b) for pair in measured)
    found = _finding(stored.comparison, "throughput")
    speedup = efficiency = None
    note = note_of(stored)
    if found is not None and not note:
        value, low, high = (math.exp(-cost) for cost in (found.change, found.high, found.low))
        share = cases[0].devices / cases[1].devices
        speedup, efficiency = (value, low, high), (value * share, low * share, high * share)
    return Gain(cases, (one, other), speedup, efficiency, accuracies_of(stored), note)


def note_of(stored: StoredComparison) -> str:
    """Return why a comparison has no speed-up; empty if it has one."""
    found = _finding(stored.comparison, "throughput")
    return "not measured" if found is None else found.note


def accuracies_of(stored: StoredComparison) -> Accuracies | None:
    """Return the accuracies of complete runs of both sides; None if they were not measured."""
    found = _finding(stored.comparison, "accuracy")
    one, other = ([row.record.test.accuracy for row in rows if row.record.test] for rows in _runs(stored))
    if found is None or found.note or not one or not other:
        return None
    change = (-found.change, -found.high, -found.low)
    return Accuracies(one=sum(one) / len(one), other=sum(other) / len(other), change=change, seeds=found.replicates)


def break_even(stored: StoredComparison, gain: Gain) -> BreakEven:
    """Return from how many images the further devices pay; see `BreakEven`.

    A process with them starts later by some seconds and then saves a share of the time of each image.
    """
    one, other = ([row.record for row in rows] for rows in _runs(stored))
    runs = min(len(one), len(other))
    if gain.speedup is None:
        return BreakEven(note=gain.note)
    _, low, high = gain.speedup
    if high <= 1:
        return BreakEven(note="never here, because the training is not faster")
    if low <= 1:
        return BreakEven(note="not known, because the interval of the speed-up includes 1")
    if not runs:
        return BreakEven(note="not known without complete runs; give --seeds")
    start = median(map(outside_training_s, other)) - median(map(outside_training_s, one))
    value, late, early = (max(0.0, start) * gain.images_per_s[0] / (1 - 1 / times) for times in gain.speedup)
    per_epoch = images_per_epoch(one[0])
    return BreakEven(
        images=(value, early, late),
        epochs=(value / per_epoch, early / per_epoch, late / per_epoch),
        start_s=start,
        runs=runs,
    )


def outside_training_s(record: Record) -> float:
    """Return the seconds of a process outside `train s`: its start, compilation and evaluation."""
    return record.total_s - sum(seconds for stage in record.stages for seconds in training_seconds(stage))


def images_per_epoch(record: Record) -> float:
    """Return the images that one epoch trains, the mean over all epochs of all stages."""
    stages = record.case.scenario.stages
    images = sum(len(done.step_us) * stage.batch_size for done, stage in zip(record.stages, stages, strict=True))
    return images / sum(len(done.epochs) for done in record.stages)


def _finding(comparison: Comparison | None, metric: str) -> Finding | None:
    findings = comparison.findings if comparison else ()
    return next((found for found in findings if found.metric == metric), None)


def _runs(stored: StoredComparison) -> tuple[list[ProcessRow], list[ProcessRow]]:
    a, b = ([row for row in stored.processes if row.side == name and row.record.status == "ok"] for name in ("A", "B"))
    return a, b
