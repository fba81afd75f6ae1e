from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from harness.data.augment import parse_augment
from harness.data.checkpoint import NORMALISATIONS, Normalisation
from harness.data.dataset import Split
from harness.data.feed import Feed, evaluation_batches, normalise
from harness.data.kept_features import KeptFeatures
from harness.errors import Declined, Refused

IMAGENET = NORMALISATIONS["imagenet"]


def made_split(count: int = 50, side: int = 36) -> Split:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % 3, np.arange(count, dtype=np.int64))


def made_feed(**changes: object) -> Feed:
    settings = {
        "split": made_split(),
        "batch_size": 8,
        "epochs": 3,
        "seed": 0,
        "image_size": 32,
        "normalisation": IMAGENET,
        "augmentations": parse_augment("random-resized-crop,flip"),
        "layout": "nhwc",
    }
    settings.update(changes)
    split = settings.pop("split")
    return Feed(split, **settings)  # type: ignore[arg-type]


def delivered(feed: Feed, epoch: int = 0) -> list[bytes]:
    return [batch.ids.tobytes() + batch.inputs.tobytes() + batch.labels.tobytes() for batch in feed.epoch(epoch)]


def test_a_native_pipeline_cannot_repeat_its_views() -> None:
    with pytest.raises(Declined, match="draws a new view in every epoch"):
        made_feed(input="native", augmentations=parse_augment("flip,views"))


@pytest.mark.parametrize(
    ("augment", "most"), [("none", 1), ("flip", 2), ("views:count=2,rotation", 2), ("rotation", 4)]
)
def test_with_kept_features_each_view_is_made_once_and_is_the_image_of_its_epoch(augment: str, most: int) -> None:
    def means(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1, 3)[:, :64].mean(axis=1, dtype=np.float64)

    settings = {"augmentations": parse_augment(augment), "epochs": 4}
    feed = made_feed(kept=KeptFeatures("backbone", 8, means), **settings)
    computed: list[int] = []
    feed.kept._compute = lambda images: (computed.append(len(np.unique(images, axis=0))), means(images))[1]
    made: Counter[int] = Counter()
    make = feed.crops

    def counted(epoch: int, positions: np.ndarray) -> np.ndarray:
        made.update(positions.tolist())
        return make(epoch, positions)

    feed.crops = counted  # type: ignore[method-assign]
    for epoch in range(4):
        for batch in feed.epoch(epoch):
            np.testing.assert_array_equal(batch.inputs, means(make(epoch, batch.ids)))
    made.subtract(feed.order(3)[:8])  # the example of the last epoch is made again
    assert max(made.values()) <= most
    assert sum(made.values()) == feed.kept.views
    # Views of the next epochs fill up the last batch of an epoch.
    assert set(computed[:-1]) == {8}


def test_V24_an_epoch_is_a_permutation_without_repeats() -> None:
    ids = np.concatenate([batch.ids for batch in made_feed(batch_size=10).epoch(0)])
    assert sorted(ids) == list(range(50))
    assert list(ids) != list(range(50))


def test_V24_the_order_of_an_epoch_is_fixed_and_changing_it_changes_the_protocol() -> None:
    assert made_feed().order(1)[:10].tolist() == [36, 19, 31, 9, 21, 42, 43, 48, 47, 45]


def test_V24_another_last_batch_is_left_out_each_epoch() -> None:
    feed = made_feed()
    left_out = [frozenset(range(50)) - set(feed.order(epoch).tolist()) for epoch in range(4)]
    assert all(len(gone) == 2 for gone in left_out)
    assert len(set(left_out)) == 4


def test_V24_order_digest_follows_the_ids_delivered() -> None:
    first, again, other = made_feed(), made_feed(), made_feed(seed=1)
    for feed in (first, again, other):
        list(feed.epoch(0))
    assert first.delivered.order_sha256 == again.delivered.order_sha256 != other.delivered.order_sha256


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_V28_stream_and_arrays_give_the_same_batches_with_any_number_of_threads(workers: int) -> None:
    arrays, stream = made_feed(), made_feed(input="stream", workers=workers)
    for epoch in range(2):
        assert delivered(arrays, epoch) == delivered(stream, epoch)
    assert arrays.delivered.order_sha256 == stream.delivered.order_sha256
    assert arrays.delivered.samples_seen == stream.delivered.samples_seen


def test_V28_pixels_differ_by_epoch_and_by_seed() -> None:
    digests = set()
    for seed in (0, 1):
        for epoch in (0, 1):
            feed = made_feed(seed=seed)
            list(feed.epoch(epoch))
            digests.add(feed.delivered.pixels_sha256)
    assert len(digests) == 4


def test_labels_and_pixels_belong_to_the_ids() -> None:
    split = made_split()
    for batch in made_feed(split=split, augmentations=()).epoch(1):
        expected = normalise(split.images[batch.ids, 2:34, 2:34], IMAGENET, "nhwc")
        assert np.array_equal(batch.inputs, expected)
        assert np.array_equal(batch.labels, split.labels[batch.ids])


def test_a_limited_split_keeps_the_samples_own_numbers() -> None:
    whole = made_split()
    ids = np.arange(0, 50, 5)
    feed = made_feed(split=Split(whole.images, whole.labels[ids], ids), batch_size=5)
    seen = list(feed.epoch(0))
    assert sorted(np.concatenate([b.ids for b in seen])) == ids.tolist()
    assert all(np.array_equal(b.labels, whole.labels[b.ids]) for b in seen)
    assert feed.delivered.samples_seen == (1, 1)


def test_both_layouts_hold_the_same_pixels_contiguously() -> None:
    for wide, tall in zip(made_feed().epoch(0), made_feed(layout="nchw").epoch(0), strict=True):
        assert wide.inputs.shape == (8, 32, 32, 3)
        assert tall.inputs.shape == (8, 3, 32, 32)
        assert tall.inputs.flags.c_contiguous
        assert np.array_equal(wide.inputs.transpose(0, 3, 1, 2), tall.inputs)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("size", [1, 7, 50, 64])
def test_V29_evaluation_sees_every_id_exactly_once_in_batches_of_one_size(layout: str, size: int) -> None:
    count = 50
    images = np.zeros((count, 8, 8, 3), dtype=np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    split = Split(images, np.zeros(count, dtype=np.int64), np.arange(count, dtype=np.int64))
    plain = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    seen: list[int] = []
    for batch, real in evaluation_batches(split, size, 8, plain, layout):  # type: ignore[arg-type]
        assert len(batch) == size
        seen += (batch[:real].reshape(real, -1)[:, 0] * 255).round().astype(int).tolist()
    assert seen == list(range(count))


@pytest.mark.parametrize("constants", NORMALISATIONS.values(), ids=NORMALISATIONS.keys())
def test_V26_normalisation_is_within_1e_6_of_float64(constants: Normalisation) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    exact = (images / 255.0 - np.array(constants.mean)) / np.array(constants.std)
    assert np.abs(normalise(images, constants, "nhwc") - exact).max() < 1e-6


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(Refused, match="use --batch-size 50 or less"):
        made_feed(batch_size=51)


def test_more_than_512_MB_of_ready_batches_is_declined_before_any_is_made() -> None:
    images = np.broadcast_to(np.zeros((256, 256, 3), dtype=np.uint8), (1000, 256, 256, 3))
    split = Split(images, np.zeros(1000, dtype=np.int64), np.arange(1000, dtype=np.int64))
    with pytest.raises(Declined, match="use --input stream"):
        made_feed(split=split, image_size=224)
    made_feed(split=split, image_size=224, input="stream")


def test_an_abandoned_stream_ends_its_threads() -> None:
    feed = made_feed(input="stream", workers=2)
    batches = feed.epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert list(batches) == []


def test_an_epoch_of_240_images_at_224_pixels_is_ready_quickly() -> None:
    feed = made_feed(split=made_split(240, 256), batch_size=16, image_size=224, augmentations=parse_augment("flip"))
    best = min(_seconds(feed, epoch) for epoch in range(4))
    assert best < 0.6, "0.25 s were seen on two quiet cores"


def _seconds(feed: Feed, epoch: int) -> float:
    start = time.process_time()
    for _ in feed.epoch(epoch):
        pass
    return time.process_time() - start
