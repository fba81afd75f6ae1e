"""The energy of a record above that of the idle machine, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from harness.clock import Kind
from harness.running.record import Energy, EnergyUsed, Record, StageEnergy, StageRecord

NOT_ABOVE = "the load used no more than the idle machine, within the uncertainty"


class Joules(NamedTuple):
    """Energy in J with its standard uncertainty."""

    value: float
    error: float

    def __add__(self, other: object) -> Joules:
        """Add two independent energies."""
        if not isinstance(other, Joules):
            return NotImplemented
        return Joules(self.value + other.value, math.hypot(self.error, other.error))


NOTHING = Joules(0.0, 0.0)


def above_idle(used: EnergyUsed, energy: Energy) -> Joules:
    """Return the energy of an interval minus that of the idle machine in the same time, over all counters.

    The uncertainty has two parts by counter: at both ends, the energy of one interval between updates of the counter;
    and the standard deviation of the idle power over the whole interval.

    >>> from harness.running.record import EnergyCounter
    >>> meter = EnergyCounter(name="RAPL", idle_w=10.0, idle_spread_w=0.5, update_s=0.01)
    >>> used = above_idle(EnergyUsed(seconds=4.0, joules=(100.0,)), Energy(counters=(meter,)))
    >>> used.value, round(used.error, 3)
    (60.0, 2.031)
    """
    total = NOTHING
    for one, joules in zip(energy.counters, used.joules, strict=True):
        power = joules / used.seconds if used.seconds else 0.0
        edges = math.sqrt(2) * power * one.update_s
        total += Joules(joules - one.idle_w * used.seconds, math.hypot(edges, one.idle_spread_w * used.seconds))
    return total


def image_joules(record: Record) -> Joules | None:
    """Return the energy per image in the throughput windows of all stages; None if none is known or above idle."""
    images = sum(w.images for stage in record.stages for w in stage.windows if w.kind == "throughput")
    found = [_of_kind(record.energy, stage.energy, "throughput") for stage in record.stages]
    if record.energy is None or not images or None in found:
        return None
    total = _sum(one for one in found if one)
    return Joules(total.value / images, total.error / images) if total.value > total.error else None


def epoch_joules(record: Record) -> list[float]:
    """Return the energy of training by epoch, in J above idle; empty if it is not known.

    As in the training time, the first step of a stage counts as a usual one, so compiling is left out.
    """
    if record.energy is None or not record.energy.counters:
        return []
    found: list[float] = []
    for stage in record.stages:
        if stage.energy is None:
            return []
        own = [above_idle(epoch, record.energy).value for epoch in stage.energy.epochs]
        found += [own[0] - _compiling(record.energy, stage, stage.energy), *own[1:]] if own else []
    return found


def source(record: Record) -> str:
    """Name the counters of the energy of a record, and say what is missing; empty for a record without training."""
    if record.energy is None:
        return ""
    absent = list(record.energy.absent)
    if record.energy.counters and image_joules(record) is None:
        absent.append(NOT_ABOVE)
    names = " + ".join(one.name for one in record.energy.counters)
    return "; ".join([*([names] if names else []), *absent])


def _of_kind(energy: Energy | None, stage: StageEnergy | None, kind: Kind) -> Joules | None:
    if energy is None or not energy.counters or stage is None or kind not in stage.kinds:
        return None
    return above_idle(stage.kinds[kind], energy)


def _compiling(energy: Energy, stage: StageRecord, used: StageEnergy) -> float:
    """Return the energy of the first step beyond a usual step, at least 0."""
    first, usual = (_of_kind(energy, used, kind) for kind in ("first", "throughput"))
    steps = sum(window.steps for window in stage.windows if window.kind == "throughput")
    return max(0.0, first.value - usual.value / steps) if first and usual and steps else 0.0


def _sum(energies: Iterable[Joules]) -> Joules:
    total = NOTHING
    for one in energies:
        total += one
    return total
