"""The harness's iterator of batches. It decides order and augmentation, so every backend gets the same pixels.

Randomness is counter-based: the augmentation of a sample depends only on (seed, epoch, sample id), the order of an
epoch only on (seed, epoch). Each epoch drops its last incomplete batch, with different samples each time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.augment import centre_crop, compose, views_of
from harness.data.checkpoint import Normalisation
from harness.data.dataset import Split
from harness.data.evidence import FeedEvidence
from harness.data.kept_features import KeptFeatures, filled
from harness.errors import Declined, Refused
from harness.spec import Augmentation, Case

if TYPE_CHECKING:
    from concurrent.futures import Future

READY_BYTES = 512 * 2**20
QUEUE_BATCHES = 4

View = tuple[int, Hashable]
"""A sample, by its id, and one of its views."""


class Batch(NamedTuple):
    """Sample ids [n], inputs of the network, labels [n].

    Inputs are normalised float32 images in the session's layout, or the kept features of its fixed part [n, ...].
    """

    ids: NDArray[np.int64]
    inputs: NDArray[Any]
    labels: NDArray[np.int64]


class Feed:
    """The batches of one stage. `epoch(i)` is called once per epoch, in order, outside the clock's window."""

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        image_size: int,
        normalisation: Normalisation,
        augmentations: tuple[Augmentation, ...],
        layout: Literal["nhwc", "nchw"],
        input: Literal["arrays", "stream", "native"] = "arrays",
        workers: int = 0,
        kept: KeptFeatures | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if batch_size > len(split.labels):
            raise Refused(
                f"a batch of {batch_size} is larger than the training set of {len(split.labels)} images; "
                f"use --batch-size {len(split.labels)} or less"
            )
        if input == "native" and any(augmentation.name == "views" for augmentation in augmentations):
            raise Declined("a framework's own pipeline draws a new view in every epoch; use views with another --input")
        self.split, self.batch_size, self.epochs, self.seed = split, batch_size, epochs, seed
        self.image_size, self.normalisation, self.augmentations = image_size, normalisation, augmentations
        self.layout, self.input, self.workers, self.kept = layout, input, workers, kept
        self.steps_per_epoch = len(split.labels) // batch_size
        self._augment, self._view, self._now = compose(augmentations), views_of(augmentations), now
        self._names: dict[View, bytes] = {}
        """Names of the kept features."""
        self._uses = self._first_uses()
        self._next_use = next(self._uses, None) if kept else None
        self.waited_ns = self.first_wait_ns = 0
        self.prepared_ns = self.features_ns = 0
        self.example: tuple[NDArray[Any], NDArray[np.uint8]] | None = None
        """Kept features of one batch of the last epoch as delivered, and its images; the seed chooses the batch."""
        self.delivered = FeedEvidence(split)
        ready = self.steps_per_epoch * batch_size * image_size * image_size * 3 * (1 if kept else 4)
        if input == "arrays" and ready > READY_BYTES:
            raise Declined(f"the ready batches of an epoch need {ready >> 20} MB, more than 512; use --input stream")

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions within the split in the order of an epoch, whole batches only, int64 [steps * batch]."""
        return epoch_order(len(self.split.labels), self.batch_size, self.seed, epoch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of one epoch; `arrays` prepares all of them before it returns, `stream` a few ahead."""
        chunks = self.order(epoch).reshape(self.steps_per_epoch, self.batch_size)
        if self.input == "stream":
            return self._stream(epoch, chunks)
        start = self._now()
        batches = list(self._kept(self.kept, epoch, chunks)) if self.kept else [self._batch(epoch, c) for c in chunks]
        self.prepared_ns += self._now() - start
        for batch in batches:
            self._note(batch)
        return iter(batches)

    def crops(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the augmented images [n, size, size, 3] of an epoch at these positions within the split."""
        ids = self.split.ids[positions]
        return np.stack([self._augment(self.split.images[i], self.seed, epoch, int(i), self.image_size) for i in ids])

    def _stream(self, epoch: int, chunks: NDArray[np.int64]) -> Iterator[Batch]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=max(1, self.workers)) as pool:
            ahead: deque[Future[Batch]] = deque()
            for chunk in chunks:
                ahead.append(pool.submit(self._batch, epoch, chunk))
                if len(ahead) > QUEUE_BATCHES:
                    yield self._wait(ahead.popleft())
            while ahead:
                yield self._wait(ahead.popleft())

    def _wait(self, batch: Future[Batch]) -> Batch:
        start = self._now()
        ready = batch.result()
        waited = self._now() - start
        self.first_wait_ns = self.first_wait_ns or waited
        self.waited_ns += waited
        self._note(ready, whole=False)
        return ready

    def _note(self, batch: Batch, *, whole: bool = True) -> None:
        self.delivered.note(batch.ids, batch.labels)
        if self.kept is None:
            self.delivered.picture(batch.inputs, self.layout, whole=whole)

    def _batch(self, epoch: int, positions: NDArray[np.int64]) -> Batch:
        inputs = normalise(self.crops(epoch, positions), self.normalisation, self.layout)
        return Batch(self.split.ids[positions], inputs, self.split.labels[positions])

    def _kept(self, kept: KeptFeatures, epoch: int, chunks: NDArray[np.int64]) -> Iterator[Batch]:
        before = kept.computed_ns
        self._add_views(kept, epoch)
        spent = kept.computed_ns - before
        self.features_ns += spent
        self.prepared_ns -= spent
        names = [self._names[view] for view in self._views(epoch, chunks.reshape(-1))]
        kept.count(names)
        features = kept.named(names)
        chosen = self.seed % self.steps_per_epoch if epoch == self.epochs - 1 else None
        shaped = features.reshape(*chunks.shape, *features.shape[1:])
        for number, (positions, inputs) in enumerate(zip(chunks, shaped, strict=True)):
            if number == chosen:
                self.example = inputs, self.crops(epoch, positions)
            yield Batch(self.split.ids[positions], inputs, self.split.labels[positions])

    def _views(self, epoch: int, positions: NDArray[np.int64]) -> list[View]:
        return [(i, self._view(self.seed, epoch, i)) for i in self.split.ids[positions].tolist()]

    def _first_uses(self) -> Iterator[tuple[int, int, View]]:
        """Yield the epoch and the position within the split of the first use of each view, in the order of use."""
        seen: set[View] = set()
        for epoch in range(self.epochs):
            positions = self.order(epoch)
            for position, view in zip(positions.tolist(), self._views(epoch, positions), strict=True):
                if view not in seen:
                    seen.add(view)
                    yield epoch, position, view

    def _add_views(self, kept: KeptFeatures, epoch: int) -> None:
        """Compute the features of all views of an epoch, and of so many of the next epochs as fill the last batch."""
        taken: list[tuple[int, int, View]] = []
        while self._next_use and (self._next_use[0] <= epoch or len(taken) % kept.batch_size):
            taken.append(self._next_use)
            self._next_use = next(self._uses, None)
        if taken:
            groups = groupby(taken, key=lambda use: use[0])
            crops = (self.crops(used_in, np.array([position for _, position, _ in uses])) for used_in, uses in groups)
            names = chain.from_iterable(kept.add(crops))
            self._names |= {view: name for (_, _, view), name in zip(taken, names, strict=True)}


def evaluation_batches(
    split: Split, batch_size: int, image_size: int, normalisation: Normalisation, layout: Literal["nhwc", "nchw"]
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield (images, number of real images): every image once, in order, centre-cropped; the last batch is padded."""
    for start in range(0, len(split.ids), batch_size):
        ids = split.ids[start : start + batch_size]
        crops = centre_crop(split.images[ids], image_size)
        yield normalise(filled(crops, batch_size), normalisation, layout), len(ids)


def normalise(
    images: NDArray[np.uint8], constants: Normalisation, layout: Literal["nhwc", "nchw"]
) -> NDArray[np.float32]:
    """Return (pixel / 255 - mean) / std of uint8 images [n, h, w, 3] as contiguous float32 in `layout`."""
    scale = (1.0 / (255.0 * np.array(constants.std))).astype(np.float32)
    offset = (-np.array(constants.mean) / np.array(constants.std)).astype(np.float32)
    wide = images.astype(np.float32)
    wide *= scale
    wide += offset
    return wide if layout == "nhwc" else np.ascontiguousarray(wide.transpose(0, 3, 1, 2))


def stage_seed(case: Case, number: int) -> int:
    """Return the seed of the feed of a case's stage `number`, from 0; each stage has its own seed."""
    return case.seed * 1000 + number


def epoch_order(samples: int, batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return shuffled positions within a split of `samples`, whole batches only, int64 [batches * batch_size]."""
    shuffle = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
    return shuffle.permutation(samples)[: samples // batch_size * batch_size]
