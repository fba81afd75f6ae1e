"""Sins in the data: splits, order, labels, pixels, evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import harness.running.stage
from benchmarks.datasets.arrays import ArraySet
from benchmarks.selftest import fixtures
from benchmarks.selftest.sin import SinPlace, sin
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Batch, Feed
from harness.running.evaluate import BATCH_SIZE, Evaluator, quality
from harness.running.record import Quality

EPOCHS, BATCHES = 3, 6


class OddFeed(Feed):
    """A feed that changes all batches (gross), or one batch of a stage."""

    place: SinPlace
    epoch_chosen = batch_chosen = 0
    made = 0

    def _batch(self, epoch: int, positions: NDArray[np.int64]) -> Batch:
        batch, number = super()._batch(epoch, positions), self.made % BATCHES
        self.made += 1
        if self.place.gross or (epoch, number) == (self.epoch_chosen, self.batch_chosen):
            return self.odd(batch)
        return batch

    def odd(self, batch: Batch) -> Batch:
        """Return the changed batch."""
        return batch


def _somewhere(place: SinPlace) -> dict[str, Any]:
    return {
        "place": place,
        "epoch_chosen": int(place.draw.integers(EPOCHS)),
        "batch_chosen": int(place.draw.integers(BATCHES)),
    }


@sin("a batch fed twice", "V24")
def fed_twice(place: SinPlace) -> Iterator[None]:
    """Gross: the first half of every epoch replaces the second. Subtle: one batch replaces another in one epoch."""
    epoch_chosen, again = int(place.draw.integers(EPOCHS)), int(place.draw.integers(1, BATCHES))

    class Repeating(Feed):
        def order(self, epoch: int) -> NDArray[np.int64]:
            batches = super().order(epoch).reshape(self.steps_per_epoch, self.batch_size)
            if place.gross:
                batches[BATCHES // 2 :] = batches[: BATCHES // 2]
            elif epoch == epoch_chosen:
                batches[again] = batches[again - 1]
            return batches.reshape(-1)

    with patch.object(harness.running.stage, "Feed", Repeating):
        yield


@sin("shuffled labels", "V27")
def shuffled_labels(place: SinPlace) -> Iterator[None]:
    """Gross: within every batch. Subtle: one image of one batch has the label of another class."""

    class Shuffling(OddFeed):
        def odd(self, batch: Batch) -> Batch:
            labels = batch.labels.copy()
            if place.gross:
                place.draw.shuffle(labels)
            else:
                index = int(place.draw.integers(len(labels)))
                labels[index] = (labels[index] + 1) % len(fixtures.CLASSES)
            return batch._replace(labels=labels)

    with patch.object(harness.running.stage, "Feed", type("", (Shuffling,), _somewhere(place))):
        yield


@sin("split overlap", "V24")
def overlapping(place: SinPlace) -> Iterator[None]:
    """Gross: half of the test images are training images. Subtle: one test image is."""
    honest = fixtures.images()
    train, test = honest.splits["train"], honest.splits["test"]
    count = len(test[0]) // 2 if place.gross else 1
    taken = place.draw.choice(len(train[0]), count, replace=False)
    replaced = place.draw.choice(len(test[0]), count, replace=False)
    pixels, labels = test[0].copy(), test[1].copy()
    pixels[replaced], labels[replaced] = train[0][taken], train[1][taken]
    made = ArraySet(honest.classes, {**honest.splits, "test": (pixels, labels)}, honest.origin)
    with patch.object(fixtures, "images", lambda: made):
        yield


@sin("augmentation differing between arms", "V28")
def other_augmentation(place: SinPlace) -> Iterator[None]:
    """Gross: one backend gets every image upside down. Subtle: one pixel of one batch is 1/255 brighter."""

    class Augmenting(OddFeed):
        def odd(self, batch: Batch) -> Batch:
            if place.gross:
                return batch._replace(inputs=np.ascontiguousarray(batch.inputs[:, ::-1]))
            images = batch.inputs.copy()
            images.flat[int(place.draw.integers(images.size))] += np.float32(1 / 255)
            return batch._replace(inputs=images)

    with patch.object(harness.running.stage, "Feed", type("", (Augmenting,), _somewhere(place))):
        yield


@sin("normalisation differing between arms", "V26")
def other_normalisation(place: SinPlace) -> Iterator[None]:
    """Gross: pixels from -1 to 1 instead of ImageNet's. Subtle: the mean of one channel is off by a ten-thousandth."""
    right = NORMALISATIONS["imagenet"]
    channel = int(place.draw.integers(3))
    mean = tuple(value + 1e-4 * (number == channel) for number, value in enumerate(right.mean))
    wrong = NORMALISATIONS["minus-one-to-one"] if place.gross else type(right)(mean=mean, std=right.std)  # type: ignore[arg-type]

    class Normalising(Feed):
        def __init__(self, split: Split, **others: Any) -> None:
            super().__init__(split, **{**others, "normalisation": wrong})

    with patch.object(harness.running.stage, "Feed", Normalising):
        yield


@sin("loss averaged over batches of unequal size", "V23")
def mean_of_means(place: SinPlace) -> Iterator[None]:
    """Gross: over a full batch and a quarter of one. Subtle: over two batches of nearly the same size."""
    size = BATCH_SIZE if place.gross else int(place.draw.integers(21, 24))

    def judge(self: Evaluator, logits: NDArray[np.float32], split: str) -> Quality:
        labels = self.split(split).labels
        parts = [quality(logits[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]
        whole = quality(logits, labels)
        return Quality(loss=float(np.mean([part.loss for part in parts])), accuracy=whole.accuracy, images=whole.images)

    with patch.object(Evaluator, "judge", judge):
        yield


@sin("last batch dropped in evaluation", "V29")
def dropped(place: SinPlace) -> Iterator[None]:
    """Gross: the last, incomplete batch of test images is missing. Subtle: one image is, and another occurs twice."""
    honest = Evaluator.__init__
    test = fixtures.COUNTS["test"]
    chosen = int(place.draw.integers(test - 1))
    kept = np.arange(test // BATCH_SIZE * BATCH_SIZE) if place.gross else np.arange(test)
    if not place.gross:
        kept[chosen] = chosen + 1

    def short(self: Evaluator, *arguments: Any, **others: Any) -> None:
        honest(self, *arguments, **others)
        whole = self._splits["test"]
        self._splits["test"] = whole._replace(ids=whole.ids[kept], labels=whole.labels[kept])

    with patch.object(Evaluator, "__init__", short):
        yield
