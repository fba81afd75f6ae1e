"""Energy counters of this machine: RAPL for processors and memory, NVML for an NVIDIA GPU.

A counter is cumulative and belongs to the hardware, so it also counts what other processes use. The power of the idle
machine, measured before, is subtracted later; a process beside the measured one is not.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, Protocol

from harness.process.gpu import GpuEnergy, gpu_names, open_gpu_energy

POWERCAP = Path("/sys/class/powercap")
IDLE_S, PARTS = 2.0, 5
"""Seconds that the idle machine is watched, and the number of parts whose powers give the spread."""
POLL_S = 0.005
REREAD_S = 30.0
"""Interval at which RAPL counters are always read, because they wrap: after 65 kJ, some minutes of full load."""


class Counter(Protocol):
    """A counter of energy with a name."""

    name: str

    def joules(self) -> float:
        """Return the energy since the counter was opened."""


class Idle(NamedTuple):
    """The idle machine by one counter: power and its standard deviation over parts, and seconds between updates."""

    watts: float
    spread_w: float
    update_s: float


class Rapl:
    """The sum of the processors' packages and their memory, in the kernel's powercap files."""

    name = "RAPL"

    def __init__(self, zones: list[Path], reread_s: float = REREAD_S) -> None:
        self._zones = [(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())) for zone in zones]
        self._last = [int(file.read_text()) for file, _ in self._zones]
        self._total = 0
        self._lock = threading.Lock()
        threading.Thread(target=_reread, args=(weakref.ref(self), reread_s), daemon=True).start()

    def joules(self) -> float:
        """Return the energy since the start; each counter may have wrapped once since the last reading."""
        with self._lock:
            for place, (file, largest) in enumerate(self._zones):
                now = int(file.read_text())
                step = now - self._last[place]
                self._total += step if step >= 0 else step + largest
                self._last[place] = now
            return self._total / 1e6


def _reread(counter: weakref.ref[Rapl], interval_s: float) -> None:
    """Read a counter at an interval until it is no longer used, or until it cannot be read."""
    while True:
        time.sleep(interval_s)
        rapl = counter()
        if rapl is None:
            return
        try:
            rapl.joules()
        except OSError:  # the next caller of `joules` gets the error
            return
        del rapl


def open_counters(device: str, powercap: Path = POWERCAP) -> tuple[list[Counter], list[str]]:
    """Open the counters for a case on `device`, as in a case; return them, and a sentence for each missing one.

    Without counters it costs the listing of one folder; NVML is not asked for `cpu`.
    """
    counters: list[Counter] = []
    absent = []
    if device == "cuda" or (device == "auto" and gpu_names()):
        gpu = open_gpu_energy()
        if isinstance(gpu, GpuEnergy):
            counters.append(gpu)
        else:
            absent.append(gpu)
    zones = _zones(powercap)
    unreadable = [zone for zone in zones if not os.access(zone / "energy_uj", os.R_OK)]
    if not zones:
        absent.append("this machine has no RAPL counter")
    elif unreadable:
        absent.append(f"{unreadable[0]}/energy_uj is not readable by this user")
    else:
        try:
            counters.append(Rapl(zones))
        except (OSError, ValueError) as error:
            absent.append(f"the RAPL counter of this machine cannot be read ({error})")
    return counters, absent


def _zones(powercap: Path) -> list[Path]:
    """Return the packages and the memory outside them, but no part of a package (core, uncore) and no whole system."""
    if not powercap.is_dir():
        return []
    named = {
        zone: (zone / "name").read_text().strip()
        for zone in sorted(powercap.glob("intel-rapl:*"))
        if (zone / "name").is_file()
    }
    packages = [zone for zone, name in named.items() if re.fullmatch(r"package-\d+", name)]
    memory = [zone for zone, name in named.items() if name == "dram"]
    return [*packages, *memory]


def watch_idle(
    counters: list[Counter],
    seconds: float = IDLE_S,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Idle]:
    """Watch the counters while this process waits, and return the idle machine by each of them."""
    powers: list[list[float]] = [[] for _ in counters]
    longest, changed = [0.0] * len(counters), [now()] * len(counters)
    last = [counter.joules() for counter in counters]
    for _ in range(PARTS):
        began, before = now(), [counter.joules() for counter in counters]
        while now() - began < seconds / PARTS:
            sleep(POLL_S)
            for place, counter in enumerate(counters):
                joules, moment = counter.joules(), now()
                if joules != last[place]:
                    longest[place] = max(longest[place], moment - changed[place])
                    last[place], changed[place] = joules, moment
        spent = now() - began
        for place, counter in enumerate(counters):
            powers[place].append((counter.joules() - before[place]) / spent)
    ended = now()
    updates = (max(gap, ended - moment) for gap, moment in zip(longest, changed, strict=True))
    return [Idle(mean(own), stdev(own), update) for own, update in zip(powers, updates, strict=True)]
