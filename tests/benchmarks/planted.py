"""Pairs whose sides differ by a delay that is known, measured by the real clock on a core that is made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from benchmarks.comparing.pairs import LEAST_STEPS, ROUNDS
from harness.clock import TimeSource
from harness.pairing.side_record import SideRecord
from harness.pairing.turn_clock import Stopped
from harness.running.record import Sensors
from harness.spec import Case
from tests.harness.cases import scenario
from tests.harness.turning import turn_clock

CASE = Case(
    backend="reference", model="tiny-cnn", dataset="d", dataset_sha256="", image_size=32,
    scenario=scenario(start="random"),
)  # fmt: skip
MS = 1_000_000
LOOK_NS, BUSY_NS = 200, 2_500
"""What a look at a clock costs, and one of the busy wait's; dear, so that a busy wait is few looks."""


class Core:
    """A core on a fake clock. Each of its `neighbours` computes for a slice whenever this process has had one.

    The step after a busy wait takes `cold_ns` longer, as on a real core.
    """

    def __init__(
        self, draw: np.random.Generator, neighbours: int, slice_ns: float = 4 * MS, cold_ns: float = 0.0
    ) -> None:
        self._draw, self._neighbours, self._slice = draw, neighbours, slice_ns
        self.wall = self.used = 0
        self.switches = 0
        self._left = draw.uniform(0, slice_ns)
        self._cold_ns, self._waited = cold_ns, False

    def step(self, ns: float) -> None:
        """Compute one step."""
        self.compute(ns + self._cold_ns * self._waited)
        self._waited = False

    def compute(self, ns: float) -> None:
        """Use the core for so long; the wall's clock goes on while others have it."""
        self.used += int(ns)
        self.wall += int(ns)
        if not self._neighbours:
            return
        self._left -= ns
        while self._left <= 0:
            self.switches += 1
            self.wall += int(sum(self._draw.uniform(0.8, 1.2, self._neighbours)) * self._slice)
            self._left += self._slice * self._draw.uniform(0.8, 1.2)

    @property
    def source(self) -> TimeSource:
        """Its time, for the harness."""

        def wall() -> int:
            self.compute(LOOK_NS)
            return self.wall

        def used() -> int:
            self.compute(LOOK_NS)
            return self.used

        def busy() -> int:
            self.compute(BUSY_NS)
            self._waited = True
            return self.used

        return TimeSource(now=wall, cpu=used, thread_cpu=busy)


def side(
    core: Core, draw: np.random.Generator, step_ns: float, delay: float, turn_s: float, rest: float = 0.0
) -> SideRecord:
    """One side of a pair: as many turns as `compare` gives it, of steps that take the core about `step_ns`."""
    clock = turn_clock(_orders(turn_s), core.source, steps=1_000, warmup_steps=2, delay=delay, rest=rest, threads=1)
    process = np.exp(0.01 * draw.standard_normal())
    with suppress(Stopped):
        clock.epoch_begin()
        while True:
            core.step(step_ns * process * np.exp(0.03 * draw.standard_normal()))
            clock.tick(0.0)
    seconds = sum(turn.seconds for turn in clock.turns)
    sensors = Sensors(
        cpu_over_wall=core.used / core.wall, involuntary_switches=core.switches, voluntary_switches=0, seconds=seconds
    )
    return SideRecord(case=CASE, key="", version="", status="ok", turns=tuple(clock.turns), sensors=sensors)


def _orders(turn_s: float) -> Iterator[dict[str, Any]]:
    for _ in range(2 * ROUNDS):
        yield {"seconds": turn_s, "steps": LEAST_STEPS}
    yield {"stop": True}
