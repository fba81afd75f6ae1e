"""The clock of a stage. A backend ticks it once per optimizer step; the clock decides the kind of each step.

The steps of a stage, in order: the first step (tracing, compiling, autotuning), a fixed number of warm-up steps, the
*throughput* window (device synchronised only at its edges), and the *latency* window (device synchronised at every
step). The end of an epoch pauses a window: evaluation is not part of its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from harness.errors import Refused

Kind = Literal["first", "warmup", "throughput", "latency"]
MINIMUM_WINDOW_S = 1.0
LATENCY_STEPS = 20


class TimeSource(NamedTuple):
    """Functions that return a time in ns: wall time, CPU time of the process, CPU time of the calling thread."""

    now: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns
    thread_cpu: Callable[[], int] = time.thread_time_ns


REAL_TIME = TimeSource()


class NotFinite(Exception):
    """Training diverged; the message names the step."""


class Window(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All steps of one kind. Throughput is `images / seconds` of one window.

    `tail_s` is the time in the window outside any step: the wait for the device at the end of an epoch.
    """

    kind: Kind
    steps: int
    images: int
    seconds: float
    compile_events: int
    tail_s: float | None = None


class Meter(Protocol):
    """Measures something else than time over the same steps; called outside the timed windows."""

    def begin(self) -> None:
        """Begin an interval; nothing before it counts."""

    def end(self, kind: Kind) -> None:
        """End the interval, of steps of one kind, and begin the next one."""

    def end_epoch(self) -> None:
        """End an epoch, after its last interval."""


class Clock:
    """The clock of one stage.

    `steps` is the number of optimizer steps of the stage; `sync` returns when the device is idle; `compile_events`
    returns the number of compilations so far; `on_epoch_begin(epoch)`, `on_epoch_end(epoch)` and, after the first step
    of the stage, `on_first_step()` run outside the window; `now` returns ns. Raises `Refused` if no step is left after
    the first step and the warm-up.
    """

    def __init__(
        self,
        *,
        steps: int,
        batch_size: int,
        warmup_steps: int,
        sync: Callable[[], None],
        compile_events: Callable[[], int],
        on_epoch_end: Callable[[int], None],
        on_epoch_begin: Callable[[int], None] = lambda epoch: None,
        on_first_step: Callable[[], None] | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
        meter: Meter | None = None,
    ) -> None:
        counts = plan(steps, warmup_steps)
        self._kinds: list[Kind] = [kind for kind, count in counts.items() for _ in range(count)]
        self._batch_size = batch_size
        self._sync, self._compile_events, self._now = sync, compile_events, now
        self._on_epoch_begin, self._on_epoch_end = on_epoch_begin, on_epoch_end
        self._on_first_step = on_first_step
        self._meter = meter
        self._seconds: dict[Kind, int] = dict.fromkeys(counts, 0)
        self._tails: dict[Kind, int] = dict.fromkeys(counts, 0)
        self._compiled: dict[Kind, int] = dict.fromkeys(counts, 0)
        self._losses: list[Any] = []
        self._last = self._opened = 0
        self._seen_compiles = 0
        self.step_ns: list[int] = []
        self.losses: list[float] = []
        self.epoch_ns: list[int] = []
        self.epoch_end_ns = 0
        """Time spent in `on_epoch_end` so far."""
        self.drained_ns = 0
        """Time to read the losses after the device reported that it was idle; almost 0 if it really was idle (V40)."""

    def epoch_begin(self) -> None:
        """Open the window; the batches of the epoch are ready, or in preparation if they are streamed."""
        self._on_epoch_begin(len(self.epoch_ns))
        self._sync()
        self._seen_compiles = self._compile_events()
        if self._meter:
            self._meter.begin()
        self._last = self._opened = self._epoch_opened = self._now()

    def tick(self, loss: Any) -> None:
        """Note that one optimizer step was dispatched. `loss` is a scalar that the clock converts to a float later."""
        step = len(self.step_ns)
        kind = self._kinds[step]
        edge = kind in ("first", "latency") or step + 1 == len(self._kinds) or self._kinds[step + 1] != kind
        if edge:
            self._sync()
        now = self._now()
        self.step_ns.append(now - self._last)
        self._losses.append(loss)
        self._last = now
        if edge:
            self._close(kind, now)
        if step == 0 and self._on_first_step:
            began = self._now()
            self._on_first_step()
            if self._meter:
                self._meter.begin()
            self._last = self._opened = self._now()
            self._epoch_opened += self._last - began

    def epoch_end(self) -> None:
        """Close the window, check the losses, and let the worker evaluate. Raises `NotFinite`."""
        self._sync()
        now = self._now()
        kind = self._kinds[len(self.step_ns) - 1]
        self._tails[kind] += now - self._last
        self._close(kind, now)
        if self._meter:
            if kind == "latency":
                self._meter.end(kind)
            self._meter.end_epoch()
        self.epoch_ns.append(now - self._epoch_opened)
        first = len(self.losses)
        closed = self._now()
        last = [float(loss) for loss in self._losses[-1:]]
        self.drained_ns += self._now() - closed
        self.losses.extend([*map(float, self._losses[:-1]), *last])
        self._losses.clear()
        for offset, loss in enumerate(self.losses[first:]):
            if not math.isfinite(loss):
                raise NotFinite(f"loss is not finite at step {first + offset}; a lower learning rate may help")
        self._on_epoch_end(len(self.epoch_ns) - 1)
        self.epoch_end_ns += self._now() - now

    def windows(self) -> list[Window]:
        """Return the measured windows, one for each kind of step that occurred."""
        done = self._kinds[: len(self.step_ns)]
        return [
            Window(
                kind=kind,
                steps=done.count(kind),
                images=done.count(kind) * self._batch_size,
                seconds=self._seconds[kind] / 1e9,
                compile_events=self._compiled[kind],
                tail_s=self._tails[kind] / 1e9,
            )
            for kind in self._seconds
            if kind in done
        ]

    def _close(self, kind: Kind, now: int) -> None:
        self._seconds[kind] += now - self._opened
        compiled = self._compile_events()
        self._compiled[kind] += compiled - self._seen_compiles
        self._seen_compiles = compiled
        if self._meter and kind != "latency":  # latency steps follow each other without a pause
            self._meter.end(kind)
        self._last = self._opened = self._now() if kind != "latency" else now


def empty_step_us(source: TimeSource = REAL_TIME, steps: int = 200) -> float:
    """Measure the clock's own cost per step, in microseconds: the minimum of five tries with empty steps (V44)."""
    spent = []
    for _ in range(5):
        clock = Clock(
            steps=steps,
            batch_size=1,
            warmup_steps=0,
            sync=lambda: None,
            compile_events=lambda: 0,
            on_epoch_end=lambda epoch: None,
            now=source.now,
        )
        clock.epoch_begin()
        started = source.now()
        for _ in range(steps):
            clock.tick(0.0)
        spent.append((source.now() - started) / steps / 1e3)
    return min(spent)


def plan(steps: int, warmup_steps: int) -> dict[Kind, int]:
    """Return the number of steps of each kind, in order. Raise `Refused` if no step is left after the warm-up."""
    left = steps - 1 - warmup_steps
    if left < 1:
        raise Refused(
            f"a stage of {steps} steps has no step left after its first step and {warmup_steps} warm-up steps; "
            "use more epochs, a smaller batch or --warmup-steps"
        )
    latency = min(LATENCY_STEPS, left // 4)
    return {"first": 1, "warmup": warmup_steps, "throughput": left - latency, "latency": latency}
