"""The cost per step of stand-ins for a framework's own layers and optimizers, for a certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from threading import Condition

from msgspec.structs import replace

from harness.certifying.answers import StandInCost
from harness.contract import Session
from harness.data.checkpoint import Normalisation
from harness.data.dataset import Dataset
from harness.running.evaluate import Evaluator
from harness.running.sensors import Wall
from harness.running.stage import StageRun
from harness.spec import Case

EPOCHS = 7
"""Measured epochs; one more epoch before them traces and compiles."""


def cost_of_stand_ins(
    open_session: Callable[[Case], Session], case: Case, dataset: Dataset, normalisation: Normalisation
) -> StandInCost:
    """Measure a step of the scenario's first stage with the stand-ins and with the framework's own parts.

    Both train in threads of this process and take turns of one epoch, so other load on the machine affects both.
    `open_session` returns a session that is ready to train.
    """
    turns = _Turns()

    def seconds(number: int, idiom: bool) -> list[float]:
        with turns.of(number):
            short = _first_stage(replace(case, idiom=idiom))
            session, batch_size = open_session(short), short.scenario.stages[0].batch_size
            # A stage always evaluates between epochs, outside the timed window; here on as few images as possible.
            evaluator = Evaluator(session, dataset, short.image_size, normalisation, batch_size, batch_size)
            run = StageRun(session, short, 0, dataset, evaluator)
            record = run.run(Wall(0.0), lambda event: turns.pass_on(number))
            return [epoch.seconds / run.feed.steps_per_epoch for epoch in record.epochs[1:]]

    with ThreadPoolExecutor(2) as pool:
        stand_ins, own = pool.map(seconds, (0, 1), (False, True))
    return StandInCost(
        scenario=case.scenario.name,
        stand_ins_s=median(stand_ins),
        own_s=median(own),
        ratio=median(one / other for one, other in zip(stand_ins, own, strict=True)),
        epochs=EPOCHS,
    )


def _first_stage(case: Case) -> Case:
    stage = replace(case.scenario.stages[0], epochs=1 + EPOCHS)
    return replace(case, scenario=replace(case.scenario, stages=(stage,)))


class _Turns:
    """The turns of two threads, 0 and 1. Thread 0 begins; when one has ended, the other continues alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next, self._gone = 0, False

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Wait for the first turn, run the block, then let the other thread continue alone."""
        self._wait(number)
        try:
            yield
        finally:
            with self._changed:
                self._gone = True
                self._changed.notify_all()

    def pass_on(self, number: int) -> None:
        """Start the turn of the other thread and wait until it is over."""
        with self._changed:
            self._next = 1 - number
            self._changed.notify_all()
        self._wait(number)

    def _wait(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._gone or self._next == number)
