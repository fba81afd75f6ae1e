"""A simulated machine with a host and a device. Its time passes without real waiting."""

from __future__ import annotations

import numpy as np

from harness.clock import TimeSource

MS = 1_000_000


class SimulatedMachine:
    """Times are in ns. A step takes the host `dispatch` and the device `work`, with jitter from the seed.

    With `asynchronous`, the host continues while the device works; otherwise there is only the host.
    """

    def __init__(self, seed: int, *, asynchronous: bool = False) -> None:
        self._draw = np.random.default_rng([2024, seed])
        self.dispatch = (70.0 if asynchronous else 100.0) * MS
        self.work = 100.0 * MS if asynchronous else 0.0
        self.host = self.free_at = 0
        self.cores = 0.97
        """The number of busy cores while the host's time passes."""
        self._cpu = 0.0

    def now(self) -> int:
        """Return the wall time."""
        return self.host

    def cpu(self) -> int:
        """Return the CPU time of the process."""
        return int(self._cpu)

    @property
    def source(self) -> TimeSource:
        """The time of the machine, for the harness."""
        return TimeSource(now=self.now, cpu=self.cpu, thread_cpu=self.cpu)

    def spend(self, ns: float) -> None:
        """Let the host work."""
        self.host += int(ns)
        self._cpu += ns * self.cores

    def step(self) -> int:
        """Give the device one step; return the time at which it is done."""
        jitter = self._draw.uniform(0.99, 1.01, 2)
        self.spend(self.dispatch * jitter[0])
        self.free_at = max(self.free_at, self.host) + int(self.work * jitter[1])
        return self.free_at

    def wait(self, until: int | None = None) -> None:
        """Let the host wait until a time, or until the device has done everything."""
        self.host = max(self.host, self.free_at if until is None else until)


class Pending:
    """A loss on the device; the conversion to a number waits for it."""

    def __init__(self, loss: float, machine: SimulatedMachine, ready_at: int) -> None:
        self._loss, self._machine, self._ready_at = loss, machine, ready_at

    def __float__(self) -> float:
        self._machine.wait(self._ready_at)
        return self._loss
