"""The gain from further devices in one comparison: speed-up, efficiency, accuracy, and from how many images it pays.

The speed-up of strong scaling needs a certificate that both numbers of devices train the same.
"""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import NamedTuple

import msgspec

from harness import PROGRAM
from harness.pairing.side_record import SideRecord
from harness.running.record import Record
from harness.spec import Case
from results.certificates.certificate import Certificates, packages
from results.certificates.scope import coverage_of, subject_of_case
from results.storage.comparison import Comparison, Finding
from results.storage.rows import ProcessRow
from results.storage.windows import training_seconds
from results.verdicts.pair_findings import median_step_us
from results.verdicts.stored_comparisons import StoredComparison

ANOTHER_NORM = "norm over each device: another training"
"""The note of a speed-up with `--norm-scope device`."""
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
    """One comparison of a first with a further number of devices.

    `speedup` is None without a measurement or a proof. `note` says why, or what is behind the speed-up.
    """

    cases: tuple[Case, Case]
    images_per_s: tuple[float, float]
    speedup: Interval | None
    efficiency: Interval | None
    accuracies: Accuracies | None
    note: str

    @property
    def weak(self) -> bool:
        """Whether each device has the batch of the baseline."""
        return _is_weak(*self.cases)

    @property
    def exchange(self) -> Interval | None:
        """The share of a step that one device does not have: exchanges, waiting for each other, shared resources.

        Only weak scaling shows it, where a device computes the same rows in both steps. The three cannot be separated.
        """
        if not self.weak or self.efficiency is None:
            return None
        value, low, high = self.efficiency
        return 1 - value, 1 - high, 1 - low


class _Claim(NamedTuple):
    """What a speed-up claims about the training; `unproved` if it claims the same training without a certificate."""

    text: str
    unproved: bool = False


def gain_of(stored: StoredComparison, certificates: Certificates) -> Gain | None:
    """Return the gain of a comparison of numbers of devices; None without a pair that counts."""
    measured = [pair for pair in stored.pairs if pair.counts]
    if not measured:
        return None
    sides = measured[0].a, measured[0].b
    cases = sides[0].case, sides[1].case
    one = median(1e6 / median_step_us(pair.a) for pair in measured)
    other = median(1e6 / median_step_us(pair.b) for pair in measured)
    found = _finding(stored.comparison, "throughput")
    speedup = efficiency = None
    claim = _claim(sides, certificates)
    note = note_of(stored)
    if found is not None and not note and not claim.unproved:
        value, low, high = (math.exp(-cost) for cost in (found.change, found.high, found.low))
        share = cases[0].devices / cases[1].devices
        speedup, efficiency = (value, low, high), (value * share, low * share, high * share)
    return Gain(cases, (one, other), speedup, efficiency, accuracies_of(stored), note or claim.text)


def _claim(sides: tuple[SideRecord, SideRecord], certificates: Certificates) -> _Claim:
    one, other = (side.case for side in sides)
    if _is_weak(one, other):
        return _Claim("another batch")
    if other.norm_scope == "device":
        return _Claim(ANOTHER_NORM)
    subjects = [
        subject_of_case(side.case, packages(side.versions), side.effective.device if side.effective else "")
        for side in sides
    ]
    found = coverage_of(subjects[0], subjects[1], certificates.all)
    if found.certificate is not None:
        level = found.certificate.level(one.scenario.name)
        return _Claim(f"P{level}, certificate {found.certificate.sha256[:8]}")
    chosen = f"--backend {one.backend}" + (f" --engine {one.engine}" if one.engine else "")
    command = f"{PROGRAM} certify {one.model} {chosen} --set devices={other.devices} --scenario {one.scenario.name}"
    return _Claim(f"{found.reason}: {command}", unproved=True)


def _is_weak(one: Case, other: Case) -> bool:
    return one.scenario.stages[0].batch_size != other.scenario.stages[0].batch_size


def note_of(stored: StoredComparison) -> str:
    """Return why a comparison has no measured speed-up; empty if it has one."""
    found = _finding(stored.comparison, "throughput")
    return "not measured" if found is None else found.note


def accuracies_of(stored: StoredComparison) -> Accuracies | None:
    """Return the accuracies of complete runs of both sides; None if they were not measured."""
    found = _finding(stored.comparison, "accuracy")
    one, other = ([row.record.test.accuracy for row in rows if row.record.test] for rows in _runs(stored))
    if found is None or found.note or not one or not other:
        return None
    change = (-found.change, -found.high, -found.low)
    return Accuracies(one=fmean(one), other=fmean(other), change=change, seeds=found.replicates)


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
    return record.total_s - math.fsum(seconds for stage in record.stages for seconds in training_seconds(stage))


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
