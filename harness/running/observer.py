"""Observations of a session while it trains a stage: passes, updates, optimizer state and fetched batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np

from harness.contract import Session, Tensor
from harness.data.feed import Feed
from harness.spec import Stage


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of passes over batches. `forwards` and `samples` are in training mode, `inferences` in inference mode.

    A field is None if it is not counted.
    """

    forwards: int | None = None
    backwards: int | None = None
    updates: int | None = None
    samples: int | None = None
    inferences: int | None = None

    def since(self, before: Work) -> Work:
        """Return the difference between two counts."""
        pairs = ((field, getattr(self, field), getattr(before, field)) for field in self.__struct_fields__)
        return Work(**{field: None if now is None or then is None else now - then for field, now, then in pairs})


@runtime_checkable
class Counting(Protocol):
    """A session that counts its own work."""

    def work(self) -> Work:
        """Return the counts since the session was created."""


class StageObservations(msgspec.Struct, frozen=True, kw_only=True):
    """The observations of one stage.

    `work` covers all training, but its `inferences` only open windows; None if the session does not count.
    `norm_forwards` are the minimum and maximum batch counts of norm layers with batch statistics. `slots_at_start` is
    the largest value in the optimizer state before the first step. `drawn_early` counts batches fetched before the
    window opened.
    """

    work: Work | None = None
    norm_forwards: tuple[int, int] | None = None
    slots_at_start: float | None = None
    drawn_early: int = 0


class StageObserver:
    """The observer of one stage of a session. It reads tensors while they are passed to the audit."""

    def __init__(self, session: Session, stage: Stage, feed: Feed) -> None:
        self._session, self._stage, self._feed = session, stage, feed
        self._counters: list[dict[str, int]] = []
        self._slots_at_start = 0.0
        self._drawn_early = self._inferences = 0
        self._before = self._opened = self._work()

    def passing(self, state: Iterable[Tensor]) -> Iterator[Tensor]:
        """Return the same tensors, and note the counters of norm layers that use batch statistics."""
        self._counters.append({})
        return map(self._note, state)  # with map, a tensor is freed before the next one is created

    def _note(self, tensor: Tensor) -> Tensor:
        if tensor.role == "counter" and self._stage.uses_batch_statistics(tensor.part, tensor.block):
            self._counters[-1][tensor.name] = int(tensor.array)
        return tensor

    def epoch_begins(self, epoch: int) -> None:
        """Note the state before the session opens the window of an epoch."""
        if epoch == 0:
            slots = (array for state in self._session.slots().values() for array in state.values())
            self._slots_at_start = max((float(np.abs(array).max(initial=0.0)) for array in slots), default=0.0)
        self._drawn_early += max(0, self._feed.delivered.batches - epoch * self._feed.steps_per_epoch)
        self._opened = self._work()

    def epoch_ends(self) -> None:
        """Note the work at the end of the window, before evaluation."""
        self._inferences += self._work().since(self._opened).inferences or 0

    def seen(self) -> StageObservations:
        """Return the observations at the end of the stage."""
        done = self._work().since(self._before)
        counts = [count - self._counters[0].get(name, 0) for name, count in self._counters[-1].items()]
        return StageObservations(
            work=msgspec.structs.replace(done, inferences=self._inferences) if done != Work() else None,
            norm_forwards=(min(counts), max(counts)) if counts else None,
            slots_at_start=self._slots_at_start,
            drawn_early=self._drawn_early if self._feed.input != "arrays" else 0,
        )

    def _work(self) -> Work:
        return self._session.work() if isinstance(self._session, Counting) else Work()
