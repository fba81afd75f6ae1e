"""A machine whose time is turned by hand: a host and a device that works behind it. Nothing here waits or is noisy."""

from __future__ import annotations

import numpy as np

from harness.clock import TimeSource

MS = 1_000_000


class SimulatedMachine:
    """Times in ns. A step takes the host `dispatch` and the device `work`, both jittered by the seed.

    With `asynchronous`, the host goes on while the device works; without, it works itself. `slowness` multiplies both.
    """

    def __init__(self, seed: int, *, asynchronous: bool = False, slowness: float = 1.0) -> None:
        self._draw = np.random.default_rng([2024, seed])
        self.dispatch = (70 if asynchronous else 100) * MS * slowness
        self.work = 100 * MS * slowness if asynchronous else 0.0
        self.host = self.free_at = 0
        self.cores = 0.97
        """Cores that are busy while the host's time passes."""
        self._cpu = 0.0

    def now(self) -> int:
        """Time on the wall."""
        return self.host

    def cpu(self) -> int:
        """CPU time of the process."""
        return int(self._cpu)

    @property
    def source(self) -> TimeSource:
        """This machine's time, for the harness."""
        return TimeSource(now=self.now, cpu=self.cpu, thread_cpu=self.cpu)

    def spend(self, ns: float) -> None:
        """Let the host work."""
        self.host += int(ns)
        self._cpu += ns * self.cores

    def step(self) -> int:
        """Give the device one step; returns when it will have done it."""
        jitter = self._draw.uniform(0.99, 1.01, 2)
        self.spend(self.dispatch * jitter[0])
        self.free_at = max(self.free_at, self.host) + int(self.work * jitter[1])
        return self.free_at

    def wait(self, until: int | None = None) -> None:
        """Let the host wait for the device: until a moment, or until it has done everything."""
        self.host = max(self.host, self.free_at if until is None else until)


class Pending:
    """A loss on the device: turned into a number, it is waited for."""

    def __init__(self, loss: float, machine: SimulatedMachine, ready_at: int) -> None:
        self._loss, self._machine, self._ready_at = loss, machine, ready_at

    def __float__(self) -> float:
        self._machine.wait(self._ready_at)
        return self._loss
