"""Sins in the measurement of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

import harness.running.stage
from benchmarks.selftest.machine import MS
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace, sin
from harness.clock import Clock
from harness.contract import Effective
from harness.data.feed import Batch, Feed
from harness.spec import Stage


@sin("no sync before the clock stops", "V40", asynchronous=True)
def no_sync(place: SinPlace) -> Iterator[None]:
    """Gross: the clock does not wait for the device. Subtle: it waits, except for a fiftieth of an epoch's work."""
    left = 12 * MS

    class Eager(SimulatedSession):
        def sync(self) -> None:
            if not place.gross:
                self.machine.wait(self.machine.free_at - left)

    with second_backend(Eager):
        yield


@sin("clock started before the last warm-up step", "V41")
def started_early(place: SinPlace) -> Iterator[None]:
    """Gross: the window includes the warm-up. Subtle: the steps are right, but the seconds start one step early."""

    class Early(Clock):
        def __init__(self, *, warmup_steps: int, **others: Any) -> None:
            super().__init__(warmup_steps=0 if place.gross else warmup_steps, **others)
            self._last_of_warmup = warmup_steps

        def tick(self, loss: Any) -> None:
            super().tick(loss)
            if not place.gross and len(self.step_ns) - 1 == self._last_of_warmup:
                self._opened -= self.step_ns[-1]

    with patch.object(harness.running.stage, "Clock", Early):
        yield


@sin("compile in the window", "V34")
def compiling(place: SinPlace) -> Iterator[None]:
    """Gross: every step is traced again. Subtle: one step in the middle of the window is."""
    chosen = int(place.draw.integers(5, 12))

    class Tracing(SimulatedSession):
        traces = made = 0

        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.made += 1
            self.traces += place.gross or self.made == chosen
            return super().step(batch, stage, factor)

        def compile_events(self) -> int:
            return self.traces

    with second_backend(Tracing):
        yield


@sin("fetch counted in one arm only", "V43", input="stream")
def fetching_outside(place: SinPlace) -> Iterator[None]:
    """Gross: the step of one backend includes the fetch. Subtle: both claim so, but one fetches everything before."""

    class Ahead:
        def __init__(self, feed: Feed) -> None:
            self._feed = feed

        def __getattr__(self, name: str) -> Any:
            return getattr(self._feed, name)

        def epoch(self, number: int) -> Iterator[Batch]:
            return iter(list(self._feed.epoch(number)))

    class Fetching(SimulatedSession):
        wall_part = "step with another name" if place.gross else SimulatedSession.wall_part

        def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
            super().train(stage, feed if place.gross else Ahead(feed), clock)  # type: ignore[arg-type]

    with second_backend(Fetching):
        yield


@sin("threads ignored", "V37")
def other_threads(place: SinPlace) -> Iterator[None]:
    """Gross: four cores are busy, and the backend reports it. Subtle: 1.1 cores are busy, and it reports one thread."""

    class Busy(SimulatedSession):
        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.machine.cores = 4.0 if place.gross else 1.1
            return super().step(batch, stage, factor)

        def effective(self) -> Effective:
            return replace(super().effective(), threads=4 if place.gross else 1)

    with second_backend(Busy):
        yield


@sin("evaluation inside the window", "V43")
def evaluating_inside(place: SinPlace) -> Iterator[None]:
    """Gross: every batch is evaluated after its step. Subtle: one batch of the stage is."""
    chosen = int(place.draw.integers(5, 15))

    class Judging(SimulatedSession):
        made = 0

        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            self.made += 1
            loss = super().step(batch, stage, factor)
            if place.gross or self.made == chosen:
                self.predict(batch.inputs)
            return loss

    with second_backend(Judging):
        yield


@sin("step times rounded to milliseconds", "V51")
def rounding(place: SinPlace) -> Iterator[None]:
    """Gross: all steps, to milliseconds. Subtle: only the steps for throughput, to tenths of a millisecond."""
    unit = MS if place.gross else MS // 10

    class Coarse(Clock):
        def tick(self, loss: Any) -> None:
            kind = self._kinds[len(self.step_ns)]
            super().tick(loss)
            if place.gross or kind == "throughput":
                self.step_ns[-1] = round(self.step_ns[-1] / unit) * unit

    with patch.object(harness.running.stage, "Clock", Coarse):
        yield


def slowed(times: float) -> Any:
    """Slow the second backend down, as another process on the machine does; this alone is not a sin."""

    class Slowed(SimulatedSession):
        def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
            loss = super().step(batch, stage, factor)
            self.machine.spend(self.machine.dispatch * (times - 1))
            return loss

    return second_backend(Slowed)
