"""Rules about prepared images, and about a record and its files.

The worker reports which images it used; these checks compute from the prepared dataset which ones it must use.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.feed import epoch_order, stage_seed
from harness.rules import Finding, rule
from harness.running.evaluate import quality
from harness.running.record import Record

LOSS = 1e-5
"""Largest relative difference between the recorded loss and the loss of the logits (V23)."""


class Files(NamedTuple):
    """The prepared dataset of the case, and logits [n, classes], labels [n] and ids [n] of the test images."""

    dataset: Dataset
    logits: NDArray[Any]
    labels: NDArray[Any]
    ids: NDArray[Any]


@rule("V23", "files")
def quality_not_of_logits(record: Record, files: Files) -> Iterator[Finding]:
    """The loss or the accuracy on the test images does not follow from the stored logits."""
    if record.test is None or len(files.labels) != len(files.logits):
        return
    found = quality(files.logits, files.labels)
    if not math.isclose(found.loss, record.test.loss, rel_tol=LOSS):
        yield f"the test loss is {record.test.loss:.6g}, but the logits give {found.loss:.6g}"
    if not math.isclose(found.accuracy, record.test.accuracy, abs_tol=1e-9):
        yield f"the test accuracy is {record.test.accuracy:.4f}, but the logits give {found.accuracy:.4f}"


@rule("V24", "files")
def other_order(record: Record, files: Files) -> Iterator[Finding]:
    """The samples are not in the order that the seed gives; native pipelines are exempt."""
    for number, order in _orders(record, files.dataset):
        if _digest(files.dataset.splits["train"].ids[order]) != record.stages[number].order_sha256:
            yield f"stage {number + 1}", "the samples are not in the order of the seed"


@rule("V27", "files")
def other_labels(record: Record, files: Files) -> Iterator[Finding]:
    """An image was used with a wrong label in training or evaluation."""
    train, test = (files.dataset.splits[name] for name in ("train", "test"))
    for number, order in _orders(record, files.dataset):
        recorded = record.stages[number].labels_sha256
        if recorded is not None and recorded != _digest(train.labels[order]):
            yield f"stage {number + 1}", "training images had wrong labels"
    labels = dict(zip(test.ids.tolist(), test.labels.tolist(), strict=True))
    judged = zip(files.ids.tolist(), files.labels.tolist(), strict=False)
    if wrong := [image for image, label in judged if labels.get(image, label) != label]:
        yield f"test image {wrong[0]} was evaluated with a wrong label"


@rule("V29", "files")
def test_images_not_once(record: Record, files: Files) -> Iterator[Finding]:
    """A test image has no logits, or has logits twice."""
    wanted, found = files.dataset.splits["test"].ids, files.ids
    missing, extra = np.setdiff1d(wanted, found), len(found) - len(np.unique(found))
    if missing.size or extra or len(files.logits) != len(found):
        yield f"{len(files.logits)} logits for {len(wanted)} test images: {missing.size} have none, {extra} have two"


@rule("V24", "dataset")
def image_in_two_splits(splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Iterator[Finding]:
    """An image is in two splits, so it is both trained on and evaluated."""
    seen: dict[bytes, tuple[str, int]] = {}
    for split, (images, _) in splits.items():
        for place, image in enumerate(images):
            other, first = seen.setdefault(hashlib.sha256(image.tobytes()).digest(), (split, place))
            if other != split:
                yield f"the same image is in {other} ({first}) and in {split} ({place})"


DATASET_RULES = (image_in_two_splits,)
FILE_RULES = (quality_not_of_logits, other_order, other_labels, test_images_not_once)


def _orders(record: Record, dataset: Dataset) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each trained stage's number and its sample positions within the training split, in order."""
    if record.case.input == "native":
        return
    samples = len(dataset.splits["train"].ids)
    for number, stage in enumerate(record.case.scenario.stages[: len(record.stages)]):
        seed = stage_seed(record.case, number)
        epochs = [epoch_order(samples, stage.batch_size, seed, epoch) for epoch in range(stage.epochs)]
        yield number, np.concatenate(epochs)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()
