"""The wall time of a process by part, its memory, its energy, and its disturbance by other processes.

A pair is measured again if one of its processes was disturbed. This decision must not depend on the measured times, so
`Disturbance` reads no step times.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.clock import REAL_TIME, Kind, TimeSource
from harness.process.energy import Counter, Idle, open_counters, watch_idle
from harness.process.gpu import Gpu, read_gpu
from harness.process.machine import usable_cores
from harness.running.record import Energy, EnergyCounter, EnergyUsed, GpuSensors, Sensors, StageEnergy


class Wall:
    """The wall time of a process since `started` (epoch s), split into parts that do not overlap and add up."""

    def __init__(self, started: float, source: TimeSource = REAL_TIME) -> None:
        self._parts: dict[str, float] = {"start": time.time() - started}
        self._now = source.now
        self._last = self._now()

    def lap(self, part: str) -> float:
        """Add the time since the last lap to `part`; return it in seconds."""
        now = self._now()
        seconds, self._last = (now - self._last) / 1e9, now
        self._parts[part] = self._parts.get(part, 0.0) + seconds
        return seconds

    def leave_out(self, ns: int) -> None:
        """Leave a time that ends now, and began after the last lap, out of every part."""
        self._last += ns

    def pause_for(self, action: Callable[[], object]) -> None:
        """Call `action` and leave its time out of every part."""
        began = self._now()
        action()
        self.leave_out(self._now() - began)

    def split(self, remainder: str, known: Mapping[str, float]) -> None:
        """Add the `known` seconds to their parts, and the rest of the time since the last lap to `remainder`."""
        left = self.lap(remainder)
        for part, seconds in known.items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds
        self._parts[remainder] -= sum(known.values())
        if self._parts[remainder] < -1e-3 * max(1.0, left):
            raise RuntimeError(f"parts of the wall time overlap: {known} in {left:.3f} s")

    def parts(self) -> dict[str, float]:
        """Return the seconds by part."""
        return dict(self._parts)


def private_memory() -> int:
    """Return the current anonymous resident memory in bytes, without mapped files; 0 if not on Linux."""
    return _status("RssAnon")


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def anonymous_peak() -> int | None:
    """Return the peak resident memory in bytes without mapped files; None if not on Linux.

    The resident size of mapped libraries depends on the kernel's page cache: the same torch, installed in two folders,
    had 312 and 547 MB.
    """
    return (_status("VmHWM") - _status("RssFile")) or None


def _status(field: str) -> int:
    file = Path("/proc/self/status")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith(field)), 0)


class EnergyMeter:
    """The energy counters of this process; `stage` returns a `harness.clock.Meter`, or None without a counter.

    `watch_idle` must be called once while nothing runs, and takes two seconds; without a counter it takes none.
    """

    def __init__(self, device: str, source: TimeSource = REAL_TIME) -> None:
        self._counters, self._absent = open_counters(device)
        self._now = source.now
        self._idle: list[Idle] = []

    def watch_idle(self) -> None:
        """Measure the power of the idle machine."""
        if self._counters:
            self._idle = watch_idle(self._counters)

    def stage(self) -> StageMeter | None:
        """Return the meter of one stage."""
        return StageMeter(self._counters, self._now) if self._counters else None

    def read(self) -> Energy:
        """Return the description of the counters."""
        found = zip(self._counters, self._idle, strict=True)
        return Energy(
            counters=tuple(
                EnergyCounter(name=one.name, idle_w=idle.watts, idle_spread_w=idle.spread_w, update_s=idle.update_s)
                for one, idle in found
            ),
            absent=tuple(self._absent),
        )


class StageMeter:
    """Sums what counters count, by kind of step and by epoch. `now` returns ns."""

    def __init__(self, counters: Sequence[Counter], now: Callable[[], int]) -> None:
        self._counters, self._now = counters, now
        self._began = self._read()
        self._kinds: dict[Kind, list[float]] = {}
        self._epochs: list[list[float]] = []
        self._epoch = self._zeros()

    def begin(self) -> None:
        """Begin an interval."""
        self._began = self._read()

    def end(self, kind: Kind) -> None:
        """End an interval, of steps of one kind, and begin the next one."""
        ended = self._read()
        spent = [after - before for before, after in zip(self._began, ended, strict=True)]
        for sums in (self._kinds.setdefault(kind, self._zeros()), self._epoch):
            sums[:] = [a + b for a, b in zip(sums, spent, strict=True)]
        self._began = ended

    def end_epoch(self) -> None:
        """End an epoch."""
        self._epochs.append(self._epoch)
        self._epoch = self._zeros()

    def used(self) -> StageEnergy:
        """Return the sums."""
        kinds = {kind: _used(sums) for kind, sums in self._kinds.items()}
        return StageEnergy(kinds=kinds, epochs=tuple(map(_used, self._epochs)))

    def _read(self) -> list[float]:
        """Return the seconds, and the joules of each counter."""
        return [self._now() / 1e9, *(counter.joules() for counter in self._counters)]

    def _zeros(self) -> list[float]:
        return [0.0] * (1 + len(self._counters))


def _used(sums: list[float]) -> EnergyUsed:
    return EnergyUsed(seconds=sums[0], joules=tuple(sums[1:]))


STAT, PRESSURE = Path("/proc/stat"), Path("/proc/pressure/cpu")
ABSENT = {
    "stolen": "this system does not report the time taken by a hypervisor",
    "pressure": "this kernel does not report how long processes waited for a processor",
    "mhz": "this machine does not report the clock speed of its processors",
}
STOLEN, STARVED, STALLED, SWITCHES_PER_S = 0.02, 0.05, 0.20, 50.0
"""Limits above which a process counts as disturbed: share of stolen time, missing share of its threads' CPU time, share
of time in which any process waited for a processor, involuntary switches per second."""


class _Moment(NamedTuple):
    now: int
    cpu: int
    involuntary: int
    voluntary: int
    stolen: float | None
    stalled: float | None


class Disturbance:
    """A sum of readings of this process over all intervals from `begin` to `end`; the constructor calls `begin`."""

    def __init__(self, source: TimeSource = REAL_TIME) -> None:
        self._source = source
        self._spent = [0.0, 0.0, 0, 0, 0.0, 0.0]
        self._mhz = _mhz()
        self._gpu = read_gpu()
        self._began: _Moment | None = None
        self.begin()

    def begin(self) -> None:
        """Begin an interval."""
        self._began = self._moment()

    def end(self) -> bool:
        """End the interval; return whether there was one."""
        before, now = self._began, self._moment()
        if before is None:
            return False
        self._began = None
        for place, (a, b) in enumerate(zip(before, now, strict=True)):
            self._spent[place] += 0 if a is None or b is None else b - a
        return True

    def read(self) -> Sensors:
        """End the interval and return the totals."""
        self.end()
        wall, cpu, involuntary, voluntary, stolen, stalled = self._spent
        seconds, last = wall / 1e9, self._moment()
        known = {
            "stolen": None if last.stolen is None else stolen / seconds if seconds else 0.0,
            "pressure": None if last.stalled is None else stalled / seconds if seconds else 0.0,
        }
        after = _mhz()
        mhz = None if self._mhz is None or after is None else (self._mhz, after)
        absent = [sentence for name, sentence in ABSENT.items() if (mhz if name == "mhz" else known[name]) is None]
        return Sensors(
            cpu_over_wall=cpu / wall if wall else 0.0,
            involuntary_switches=int(involuntary),
            voluntary_switches=int(voluntary),
            seconds=seconds,
            mhz=mhz,
            gpu=_gpu(self._gpu, read_gpu()),
            absent=tuple(absent),
            **known,
        )

    def _moment(self) -> _Moment:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return _Moment(self._source.now(), self._source.cpu(), used.ru_nivcsw, used.ru_nvcsw, _stolen_s(), _stalled_s())


def disturbed(sensors: Sensors, threads: int) -> list[str]:
    """Return a sentence for each disturbance of a process that should keep `threads` threads busy.

    >>> disturbed(Sensors(cpu_over_wall=0.99, involuntary_switches=900, voluntary_switches=0, seconds=6.0), 1)
    ['it lost its processor 150 times a second']
    """
    reasons = []
    if sensors.stolen is not None and sensors.stolen > STOLEN:
        reasons.append(f"a hypervisor took {sensors.stolen:.1%} of its cores' time")
    rate = sensors.involuntary_switches / sensors.seconds if sensors.seconds else 0.0
    if rate > SWITCHES_PER_S:
        reasons.append(f"it lost its processor {rate:.0f} times a second")
    if sensors.pressure is not None and sensors.pressure > STALLED and starved(sensors, threads):
        waited = f"processes waited for a processor in {sensors.pressure:.0%} of the time"
        reasons.append(f"{waited}, and it got too little CPU time")
    if sensors.gpu is not None and sensors.gpu.throttled:
        reasons.append(f"the GPU was slowed: {', '.join(sensors.gpu.throttled)}")
    if sensors.gpu is not None and sensors.gpu.other_processes:
        reasons.append(f"{sensors.gpu.other_processes} other processes were on the GPU")
    return reasons


def starved(sensors: Sensors, threads: int) -> bool:
    """Return whether a process got less CPU time than `threads` busy threads need."""
    return sensors.cpu_over_wall < (1 - STARVED) * threads


def _stolen_s() -> float | None:
    # Seconds that a hypervisor took from the usable cores: field 8 of /proc/stat on Linux.
    if not STAT.exists():
        return None
    cores = usable_cores()
    lines = {line.split()[0]: line.split() for line in STAT.read_text().splitlines() if line.startswith("cpu")}
    found = [int(lines[f"cpu{core}"][8]) for core in cores if f"cpu{core}" in lines]
    return sum(found) / os.sysconf("SC_CLK_TCK") / len(cores) if found else None


def _stalled_s() -> float | None:
    # Seconds in which any process waited for a processor: line `some` of Linux's pressure stall information.
    try:
        text = PRESSURE.read_text()
    except OSError:  # missing or switched off
        return None
    total = next((part for part in text.split("\n", 1)[0].split() if part.startswith("total=")), None)
    return int(total.removeprefix("total=")) / 1e6 if total else None


def _mhz() -> float | None:
    files = [Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in usable_cores()]
    read = [int(file.read_text()) / 1e3 for file in files if file.exists()]
    return sum(read) / len(read) if read else None


def _gpu(before: Gpu | None, after: Gpu | None) -> GpuSensors | None:
    if before is None or after is None:
        return None
    return GpuSensors(
        sm_mhz=(before.sm_mhz, after.sm_mhz),
        watts=(before.watts, after.watts),
        throttled=tuple(dict.fromkeys((*before.throttled, *after.throttled))),
        other_processes=max(before.other_processes, after.other_processes),
    )
