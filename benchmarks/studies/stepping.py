"""Run a training loop in turns or single steps. It works because a tick of the clock may block (see `contract`)."""

from __future__ import annotations

import threading
import time
from typing import Any

from harness.clock import Clock
from harness.contract import Session
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.spec import Stage


def feed_of(split: Split, stage: Stage, image_size: int, session: Session) -> Feed:
    """Return a feed of a split's images for a session, without augmentation."""
    facts: dict[str, Any] = {"normalisation": NORMALISATIONS["imagenet"], "layout": session.batch_layout}
    facts |= {"batch_size": stage.batch_size, "epochs": stage.epochs, "image_size": image_size}
    return Feed(split, seed=0, augmentations=(), **facts)


class LoopTurn:
    """Lets a loop in another thread run until a time is over or a number of steps is done.

    The loop calls `step_done` after every step, and `pause` and `resume` around work that is not training. Its thread
    starts right before the first `run`, so that turn includes everything before the first step.
    """

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._deadline = self._started = self._paused = self._excluded = 0.0
        self._steps = self._most = 0
        self._running, self._released = True, False

    def run(self, seconds: float, most: int = 2**31) -> tuple[int, float]:
        """Let the loop run; return the number of steps and their seconds."""
        self._steps, self._most, self._excluded = 0, most, 0.0
        self._started = time.perf_counter()
        self._deadline = self._started + seconds
        if not self._running:
            self._go.release()
        self._done.acquire()
        self._running = False
        return self._steps, time.perf_counter() - self._started - self._excluded

    def release(self) -> None:
        """Let the loop run to its end."""
        self._released = True
        self._go.release()

    def step_done(self) -> None:
        """Count a step, and wait if the turn is over."""
        if self._released:
            return
        self._steps += 1
        if self._steps >= self._most or time.perf_counter() >= self._deadline:
            self._done.release()
            self._go.acquire()

    def pause(self) -> None:
        """Stop the time, because the following work is not training."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """Continue the time."""
        if self._paused:
            spent = time.perf_counter() - self._paused
            self._excluded += spent
            self._deadline += spent


class LoopClock(Clock):
    """The harness's clock with turns. `synchronise` waits for the device in every step."""

    def __init__(
        self, turn: LoopTurn, stage: Stage, feed: Feed, session: Session, *, synchronise: bool = False
    ) -> None:
        super().__init__(
            steps=stage.epochs * feed.steps_per_epoch,
            batch_size=stage.batch_size,
            warmup_steps=0,
            sync=session.sync,
            compile_events=session.compile_events,
            on_epoch_end=lambda epoch: None,
        )
        self._turn, self._every_step = turn, session.sync if synchronise else None

    def epoch_begin(self) -> None:
        """Start an epoch and continue the time of the turn."""
        super().epoch_begin()
        self._turn.resume()

    def tick(self, loss: Any) -> None:
        """Count a step, which may end the turn."""
        super().tick(loss)
        if self._every_step:
            self._every_step()
        self._turn.step_done()

    def epoch_end(self) -> None:
        """End an epoch, outside the time of the turn."""
        self._turn.pause()
        super().epoch_end()


class Stepper:
    """A context manager whose `step()` runs one synchronised optimizer step of the training loop of `run`.

    Entering runs the first step, which traces and compiles. The stage must have enough steps; leaving runs the rest.
    """

    def __init__(self, session: Session, stage: Stage, feed: Feed) -> None:
        self._turn = LoopTurn()
        clock = LoopClock(self._turn, stage, feed, session, synchronise=True)
        self._thread = threading.Thread(target=session.train, args=(stage, feed, clock), daemon=True)

    def step(self) -> None:
        """Run one step, until the device has finished it."""
        self._turn.run(float("inf"), most=1)

    def __enter__(self) -> Stepper:
        self._thread.start()
        self.step()
        return self

    def __exit__(self, *_: object) -> None:
        self._turn.release()
        self._thread.join()
