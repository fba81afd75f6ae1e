"""The clock of a worker that takes turns with another one: it blocks the training loop between its turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.clock import REAL_TIME, Clock, TimeSource
from harness.pairing.side_record import Turn
from harness.running.sensors import Disturbance
from harness.running.stage import Orders
from harness.spec import Stage


class Stopped(Exception):
    """The parent needs no more turns. This ends the training loop and is not an error."""


class TurnClock(Clock):
    """A `Clock` that blocks in `tick` during the turn of the other worker.

    A turn begins with one step that is not timed. Then the device is synchronised and the time starts. It ends at the
    end of a step, after at least the ordered seconds and steps, with another synchronisation. The end of an epoch
    pauses the time. `delay` lengthens each step by this share with a busy loop (`--inject-delay`): of the CPU time per
    thread if `threads` threads compute the step, of the wall time on an accelerator (`threads` is 0). `rest` is the
    share of the same kind of loop after each step that is not timed: a step after a busy loop is slower, so the side
    without a delay has such steps, too. `orders` returns `{"seconds": …, "steps": …}` for a turn and `{"stop": true}`
    for the end.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        steps: int,
        sync: Callable[[], None],
        compile_events: Callable[[], int],
        orders: Orders,
        report: Callable[[dict[str, Any]], None],
        warmup_steps: int,
        delay: float = 0.0,
        rest: float = 0.0,
        threads: int = 0,
        source: TimeSource = REAL_TIME,
    ) -> None:
        super().__init__(
            steps=steps,
            batch_size=stage.batch_size,
            warmup_steps=warmup_steps,
            sync=sync,
            compile_events=compile_events,
            on_epoch_end=lambda epoch: None,
            now=source.now,
        )
        self._orders, self._report, self._source = orders, report, source
        self._delay, self._rest, self._threads = delay, rest, threads
        self._images, self._lead_in = stage.batch_size, 1 + warmup_steps
        self._deadline = self._began = self._paused = self._excluded = 0
        self._first = self._least = 0
        self._compiles = self._used = 0
        self._running = False
        self.turns: list[Turn] = []
        self.disturbance = Disturbance(source)
        self.disturbance.end()

    def epoch_begin(self) -> None:
        """Begin an epoch as `Clock` does and resume the time of the turn."""
        super().epoch_begin()
        self._used = self._source.cpu()
        if self._paused:
            self._excluded += self._last - self._paused
            self._paused = 0
            self.disturbance.begin()

    def epoch_end(self) -> None:
        """End an epoch as `Clock` does and pause the time of the turn."""
        self._sync()
        if self._running:
            self._paused = self._now()
            self.disturbance.end()
        super().epoch_end()

    def tick(self, loss: Any) -> None:
        """Tick as `Clock` does. Raise `Stopped` when the parent needs no more turns."""
        if self._delay or self._rest:
            self._tick_and_wait(loss)
        else:
            super().tick(loss)
        self._turn()

    def _tick_and_wait(self, loss: Any) -> None:
        self._sync()
        took = (self._source.cpu() - self._used) // self._threads if self._threads else self._now() - self._last
        self._busy(self._delay * took)
        super().tick(loss)
        self._busy(self._rest * took)
        resumed = self._now()
        self._excluded += resumed - self._last
        self._last = resumed
        self._used = self._source.cpu()

    def _busy(self, ns: float) -> None:
        if not ns:
            return
        # On a shared CPU, a busy loop measured in wall time would take too long: it also waits for the CPU.
        clock = self._source.thread_cpu if self._threads else self._now
        until = clock() + ns
        while clock() < until:
            pass

    def _turn(self) -> None:
        done = len(self.step_ns)
        if done < self._lead_in:
            return
        if done == self._lead_in:
            self._sync()
            self._report({"ready": done})
            self._wait()
        elif done == self._first:
            self._open()
        elif done - self._first >= max(1, self._least) and self._now() - self._began >= self._excluded + self._deadline:
            self._close_turn()
            self._report({"turn": len(self.turns)})
            self._wait()

    def _wait(self) -> None:
        order = self._orders()
        if order.get("stop"):
            raise Stopped
        self._first, self._least = len(self.step_ns) + 1, int(order["steps"])
        self._deadline = int(order["seconds"] * 1e9)
        self._last = self._opened = self._now()

    def _open(self) -> None:
        self._sync()  # the first step of the turn is done: its time starts here
        self._compiles = self._compile_events()
        self._excluded, self._running = 0, True
        self.disturbance.begin()
        self._began = self._last = self._now()

    def _close_turn(self) -> None:
        self._sync()
        ended, self._running = self._now(), False
        self.disturbance.end()
        steps = len(self.step_ns) - self._first
        self.turns.append(
            Turn(
                steps=steps,
                images=steps * self._images,
                seconds=(ended - self._began - self._excluded) / 1e9,
                lead_us=round(self.step_ns[self._first - 1] / 1e3),
                step_us=tuple(round(ns / 1e3) for ns in self.step_ns[self._first :]),
                compile_events=self._compile_events() - self._compiles,
            )
        )
