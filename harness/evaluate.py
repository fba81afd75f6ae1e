"""Passes over whole splits in inference mode. Every image counts once; the session sees one batch shape only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.checkpoint import Normalisation
from harness.contract import Session
from harness.dataset import Dataset, Split
from harness.feed import evaluation_batches
from harness.record import Quality

BATCH_SIZE = 32


class Evaluator:
    """Judges one session on the splits of one dataset; of the training split, on `train_pass` images if given."""

    def __init__(
        self,
        session: Session,
        dataset: Dataset,
        image_size: int,
        normalisation: Normalisation,
        train_pass: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self._session, self._splits, self._batch_size = session, dict(dataset.splits), batch_size
        if train_pass is not None:
            train = dataset.splits["train"]
            chosen = np.linspace(0, len(train.ids) - 1, min(train_pass, len(train.ids))).round().astype(np.int64)
            self._splits["train"] = train._replace(ids=train.ids[chosen], labels=train.labels[chosen])
        self._image_size, self.normalisation = image_size, normalisation

    def split(self, name: str) -> Split:
        """What is judged under that name."""
        return self._splits[name]

    def images(self, split: str) -> NDArray[np.float32]:
        """The first batch of a split as the session gets it."""
        chosen, layout = self._splits[split], self._session.batch_layout
        batches = evaluation_batches(chosen, self._batch_size, self._image_size, self.normalisation, layout)
        return next(images for images, _ in batches)

    def logits(self, split: str) -> NDArray[np.float32]:
        """Logits [n, classes] of a split, in its order."""
        chosen = self._splits[split]
        return split_logits(self._session, chosen, self._image_size, self.normalisation, self._batch_size)

    def quality(self, split: str) -> Quality:
        """Loss and accuracy of a split."""
        return self.judge(self.logits(split), split)

    def judge(self, logits: NDArray[np.float32], split: str) -> Quality:
        """Loss and accuracy that logits of a split amount to."""
        return metrics.quality(logits, self._splits[split].labels)


def split_logits(
    session: Session, split: Split, image_size: int, normalisation: Normalisation, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Logits [n, classes] of any images, in order; the same images give the same logits in every call and process."""
    batches = evaluation_batches(split, batch_size, image_size, normalisation, session.batch_layout)
    return np.concatenate([session.predict(images)[:real] for images, real in batches])
