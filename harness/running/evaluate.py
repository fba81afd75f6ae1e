"""Evaluation of whole splits in inference mode; every metric is computed here, from logits, in float64.

Every image counts once, and the session sees one batch shape only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.contract import Session
from harness.data.checkpoint import Normalisation
from harness.data.dataset import Dataset, Split
from harness.data.feed import evaluation_batches
from harness.running.record import Quality

BATCH_SIZE = 32


TRAIN_SAMPLE = 64
"""Training images that are evaluated after each epoch, unless more are asked for."""


class Evaluator:
    """Evaluates one session on the splits of one dataset, each split once for the same weights.

    Of the training split it takes `train_sample` images, spread evenly; None for all. `untimed` is entered for every
    pass: what it changes, such as the number of threads, changes no figure.
    """

    def __init__(
        self,
        session: Session,
        dataset: Dataset,
        image_size: int,
        normalisation: Normalisation,
        train_sample: int | None = TRAIN_SAMPLE,
        batch_size: int = BATCH_SIZE,
        untimed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._session, self._splits, self._batch_size = session, dict(dataset.splits), batch_size
        if train_sample is not None:
            train = dataset.splits["train"]
            chosen = np.linspace(0, len(train.ids) - 1, min(train_sample, len(train.ids))).round().astype(np.int64)
            self._splits["train"] = train._replace(ids=train.ids[chosen], labels=train.labels[chosen])
        self._image_size, self.normalisation, self._untimed = image_size, normalisation, untimed
        self._same = {"test": "val"} if dataset.meta.test_is_val else {}
        self._known: dict[str, NDArray[np.float32]] = {}

    def split(self, name: str) -> Split:
        """What is judged under that name."""
        return self._splits[name]

    def images(self, split: str) -> NDArray[np.float32]:
        """The first batch of a split as the session gets it."""
        chosen, layout = self._splits[split], self._session.batch_layout
        batches = evaluation_batches(chosen, self._batch_size, self._image_size, self.normalisation, layout)
        return next(images for images, _ in batches)

    @property
    def known(self) -> dict[str, NDArray[np.float32]]:
        """Logits of the session's present weights, by split."""
        return dict(self._known)

    def weights_moved(self, known: Mapping[str, NDArray[np.float32]] = MappingProxyType({})) -> None:
        """The session has other weights now, for which these logits are known."""
        self._known = dict(known)

    def logits(self, split: str) -> NDArray[np.float32]:
        """Logits [n, classes] of a split, in its order."""
        name = self._same.get(split, split)
        if name not in self._known:
            chosen = self._splits[name]
            with self._untimed():
                self._known[name] = split_logits(
                    self._session, chosen, self._image_size, self.normalisation, self._batch_size
                )
        return self._known[name]

    def quality(self, split: str) -> Quality:
        """Loss and accuracy of a split."""
        return self.judge(self.logits(split), split)

    def judge(self, logits: NDArray[np.float32], split: str) -> Quality:
        """Loss and accuracy that logits of a split amount to."""
        return quality(logits, self._splits[split].labels)


@runtime_checkable
class Threaded(Protocol):
    """What a session has whose number of threads can change while it lives."""

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on."""
        ...


@contextmanager
def on_cores(session: Session, cores: Sequence[int], threads: int) -> Iterator[None]:
    """Compute on all these cores, for work that is not timed; then on the own ones, with `threads`, again.

    Does nothing for a session that cannot change its number of threads.
    """
    if not isinstance(session, Threaded) or len(cores) <= threads or not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    session.use_threads(len(cores))
    try:
        yield
    finally:
        session.use_threads(threads)
        os.sched_setaffinity(0, own)


def split_logits(
    session: Session, split: Split, image_size: int, normalisation: Normalisation, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Logits [n, classes] of any images, in order; the same images give the same logits in every call and process."""
    batches = evaluation_batches(split, batch_size, image_size, normalisation, session.batch_layout)
    return np.concatenate([session.predict(images)[:real] for images, real in batches])


def quality(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Quality:
    """Judge logits [n, classes] against labels [n]; no label smoothing, every image counts once.

    >>> quality(np.array([[2.0, 0.0], [0.0, 2.0]], np.float32), np.array([0, 0])).accuracy
    0.5
    """
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    loss = log_total - shifted[np.arange(len(labels)), labels]
    right = wide.argmax(axis=1) == labels
    return Quality(loss=float(loss.mean()), accuracy=float(right.mean()), images=len(labels))
