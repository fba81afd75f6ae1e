"""Evaluation of whole splits in inference mode. All metrics are computed here, from logits, in float64.

Every image counts once, and the session gets batches of one shape only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.contract import Dividing, Session
from harness.data.augment import centre_crop
from harness.data.checkpoint import Normalisation
from harness.data.dataset import Dataset, Split
from harness.data.feed import evaluation_batches
from harness.data.kept_features import KeptFeatures, filled
from harness.process.environment import bound_to_cores
from harness.running.record import Quality

BATCH_SIZE = 32
TRAIN_SAMPLE = 64
"""Default number of training images that are evaluated after each epoch."""


class Evaluator:
    """The evaluation of one session on the splits of one dataset; logits are cached until the weights change.

    While the backbone is fixed, its features of each split are computed once (see `keep`); the logits stay the same.

    It uses `train_sample` images of the training split, spread evenly; None for all, 0 for none. Each pass runs in the
    context `untimed`, which may change, for example, the number of threads, because evaluation is not timed.
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
        self._session, self._splits, self.batch_size = session, dict(dataset.splits), batch_size
        if train_sample is not None:
            train = dataset.splits["train"]
            chosen = np.linspace(0, len(train.ids) - 1, min(train_sample, len(train.ids))).round().astype(np.int64)
            self._splits["train"] = train._replace(ids=train.ids[chosen], labels=train.labels[chosen])
        self._image_size, self.normalisation, self._untimed = image_size, normalisation, untimed
        self._same = {"test": "val"} if dataset.meta.test_is_val else {}
        self._known: dict[str, NDArray[np.float32]] = {}
        self.keep(None)

    def keep(self, kept: KeptFeatures | None, of_training: KeptFeatures | None = None) -> None:
        """Compute the features of each split once from now on, in `kept`, or for None evaluate images.

        Those of the training images are computed in `of_training`, if given, which may have them already.
        """
        self.kept, self._kept_train = kept, kept and (of_training or kept)
        self._names: dict[str, list[list[bytes]]] = {}

    def split(self, name: str) -> Split:
        """Return the images that are evaluated under this name."""
        return self._splits[name]

    def images(self, split: str) -> NDArray[np.float32]:
        """Return the first batch of a split as the session gets it."""
        chosen, layout = self._splits[split], self._session.batch_layout
        batches = evaluation_batches(chosen, self.batch_size, self._image_size, self.normalisation, layout)
        return next(images for images, _ in batches)

    @property
    def known(self) -> dict[str, NDArray[np.float32]]:
        """Logits of the session's current weights, by split."""
        return dict(self._known)

    def weights_moved(self, known: Mapping[str, NDArray[np.float32]] = MappingProxyType({})) -> None:
        """Replace the cached logits by those of the session's new weights."""
        self._known = dict(known)

    def logits(self, split: str) -> NDArray[np.float32]:
        """Return the logits [n, classes] of a split, in its order."""
        name = self._same.get(split, split)
        if name not in self._known:
            chosen = self._splits[name]
            with self._untimed():
                self._known[name] = (
                    self._of_features(kept, name)
                    if (kept := self._kept_train if name == "train" else self.kept)
                    else split_logits(self._session, chosen, self._image_size, self.normalisation, self.batch_size)
                )
        return self._known[name]

    def _of_features(self, kept: KeptFeatures, name: str) -> NDArray[np.float32]:
        session, size, split = self._session, self.batch_size, self._splits[name]
        if not isinstance(session, Dividing):
            raise TypeError(f"{type(session).__name__} cannot compute logits from features")
        if name not in self._names:
            batches = (split.ids[start : start + size] for start in range(0, len(split.ids), size))
            self._names[name] = kept.add(centre_crop(split.images[ids], self._image_size) for ids in batches)
        features = map(kept.named, self._names[name])
        return np.concatenate([session.predict_kept(filled(one, size), kept.part)[: len(one)] for one in features])

    def quality(self, split: str) -> Quality:
        """Return loss and accuracy of a split."""
        return self.judge(self.logits(split), split)

    def judge(self, logits: NDArray[np.float32], split: str) -> Quality:
        """Return loss and accuracy of logits for a split."""
        return quality(logits, self._splits[split].labels)


@runtime_checkable
class Threaded(Protocol):
    """A session that can change its number of threads."""

    def use_threads(self, count: int) -> None:
        """Compute with `count` threads from now on."""


@contextmanager
def on_cores(session: Session, cores: Sequence[int], threads: int) -> Iterator[None]:
    """Compute on all these cores during the block, then with `threads` on the previous cores again.

    Does nothing for a session that cannot change its number of threads.
    """
    if not isinstance(session, Threaded) or len(cores) <= threads or not hasattr(os, "sched_setaffinity"):
        yield
        return
    with bound_to_cores(cores):
        session.use_threads(len(cores))
        try:
            yield
        finally:
            session.use_threads(threads)


def split_logits(
    session: Session, split: Split, image_size: int, normalisation: Normalisation, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Return the logits [n, classes] of a split, in order; equal images give equal logits in every call and process."""
    batches = evaluation_batches(split, batch_size, image_size, normalisation, session.batch_layout)
    return np.concatenate([session.predict(images)[:real] for images, real in batches])


def quality(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Quality:
    """Return loss and accuracy of logits [n, classes] for labels [n], without label smoothing.

    >>> quality(np.array([[2.0, 0.0], [0.0, 2.0]], np.float32), np.array([0, 0])).accuracy
    0.5
    """
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    loss = log_total - shifted[np.arange(len(labels)), labels]
    right = wide.argmax(axis=1) == labels
    return Quality(loss=float(loss.mean()), accuracy=float(right.mean()), images=len(labels))
