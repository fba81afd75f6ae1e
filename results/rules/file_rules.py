"""Rules over a record and the files it was made from: what came out of a worker, held against what went in.

The worker says what it saw; here another process works out from the prepared dataset what it should have seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.feed import epoch_order, stage_seed
from harness.running.evaluate import quality
from harness.running.record import Record

LOSS = 1e-5
"""Relative difference that a loss may have from that of the logits (V23)."""


class Files(NamedTuple):
    """The prepared dataset as the case takes it, and logits [n, classes], labels [n] and ids [n] of the test images."""

    dataset: Dataset
    logits: NDArray[Any]
    labels: NDArray[Any]
    ids: NDArray[Any]


Rule = Callable[[Record, Files], Iterator[str]]


def v23_quality_is_that_of_the_logits(record: Record, files: Files) -> Iterator[str]:
    """Loss and accuracy on the test images follow from the logits that were kept."""
    if record.test is None or len(files.labels) != len(files.logits):
        return
    found = quality(files.logits, files.labels)
    if not math.isclose(found.loss, record.test.loss, rel_tol=LOSS):
        yield f"the test loss is {record.test.loss:.6g}, that of the logits {found.loss:.6g}"
    if not math.isclose(found.accuracy, record.test.accuracy, abs_tol=1e-9):
        yield f"the test accuracy is {record.test.accuracy:.4f}, that of the logits {found.accuracy:.4f}"


def v24_order_is_that_of_the_seed(record: Record, files: Files) -> Iterator[str]:
    """Samples came in the order that the seed gives; a native pipeline has its own."""
    for number, order in _orders(record, files.dataset):
        if _digest(files.dataset.splits["train"].ids[order]) != record.stages[number].order_sha256:
            yield f"stage {number + 1}: the samples did not come in the order of the seed"


def v27_labels_are_those_of_the_dataset(record: Record, files: Files) -> Iterator[str]:
    """Every image came with its own label, in training and in the test."""
    train, test = (files.dataset.splits[name] for name in ("train", "test"))
    for number, order in _orders(record, files.dataset):
        said = record.stages[number].labels_sha256
        if said is not None and said != _digest(train.labels[order]):
            yield f"stage {number + 1}: images came with other labels than their own"
    own = dict(zip(test.ids.tolist(), test.labels.tolist(), strict=True))
    odd = [i for i, label in zip(files.ids.tolist(), files.labels.tolist(), strict=False) if own.get(i, label) != label]
    if odd:
        yield f"test image {odd[0]} was judged by another label than its own"


def v29_every_test_image_once(record: Record, files: Files) -> Iterator[str]:
    """There are logits for every test image, once."""
    wanted, found = files.dataset.splits["test"].ids, files.ids
    missing, extra = np.setdiff1d(wanted, found), len(found) - len(np.unique(found))
    if missing.size or extra or len(files.logits) != len(found):
        yield f"{len(files.logits)} logits for {len(wanted)} test images, {missing.size} without any, {extra} twice"


FILE_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "V23": v23_quality_is_that_of_the_logits,
        "V24": v24_order_is_that_of_the_seed,
        "V27": v27_labels_are_those_of_the_dataset,
        "V29": v29_every_test_image_once,
    }
)


def file_breaches(record: Record, files: Files) -> list[str]:
    """A sentence for each breach, with the rule's id in front."""
    return [f"{rule}: {sentence}" for rule, speaks in FILE_RULES.items() for sentence in speaks(record, files)]


def _orders(record: Record, dataset: Dataset) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Positions within the training split in the order of each stage that was trained, by number."""
    if record.case.input == "native":
        return
    samples = len(dataset.splits["train"].ids)
    for number, stage in enumerate(record.case.scenario.stages[: len(record.stages)]):
        seed = stage_seed(record.case, number)
        epochs = [epoch_order(samples, stage.batch_size, seed, epoch) for epoch in range(stage.epochs)]
        yield number, np.concatenate(epochs)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()
