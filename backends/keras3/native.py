"""tf.data with Keras' preprocessing layers: what a user of Keras on TensorFlow gets end to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from harness.augment import complete
from harness.feed import Feed
from harness.spec import Augmentation

_DECODED = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
Transform = Callable[[Any], Any]


def batches(feed: Feed, epoch: int) -> Iterator[tuple[Any, Any]]:
    """One epoch of (images, labels), whole batches only; tells the feed what it waited for and which samples came.

    Order and augmentation are tf.data's and Keras' own, seeded by the feed's seed and the epoch.
    """
    return _counted(_pipeline(feed, epoch), feed)


def _counted(dataset: Any, feed: Feed) -> Iterator[tuple[Any, Any]]:
    start = time.perf_counter_ns()
    for images, labels, positions in dataset:
        feed.waited_ns += time.perf_counter_ns() - start
        feed.saw(positions.numpy())
        yield images, labels
        start = time.perf_counter_ns()


def _pipeline(feed: Feed, epoch: int) -> Any:
    count, seed = len(feed.split.labels), feed.seed * 1_000_003 + epoch
    parallel = feed.workers or None
    options = tf.data.Options()
    options.deterministic = True
    dataset = tf.data.Dataset.range(count).shuffle(count, seed=seed)
    dataset = dataset.map(_sample(feed), num_parallel_calls=parallel)
    dataset = dataset.batch(feed.batch_size, drop_remainder=True)
    transform = _transform(feed, seed)
    dataset = dataset.map(lambda images, *rest: (transform(images), *rest), num_parallel_calls=parallel)
    return dataset.prefetch(2).with_options(options)


def _sample(feed: Feed) -> Transform:
    split = feed.split
    side = int(split.images.shape[1])
    labels = tf.constant(split.labels, tf.int64)
    files = split.files

    def stored(position: Any) -> Any:
        return np.asarray(split.images[split.ids[int(position)]])

    if files is None or not all(file.lower().endswith(_DECODED) for file in files):

        def read(position: Any) -> Any:
            image = tf.numpy_function(stored, [position], tf.uint8, stateful=False)
            return tf.ensure_shape(image, (side, side, 3))

    else:
        paths = tf.constant([files[i] for i in split.ids])

        def read(position: Any) -> Any:
            image = tf.io.decode_image(tf.io.read_file(paths[position]), channels=3, expand_animations=False)
            # The shorter side to `side`, then the middle, as the prepared arrays were made.
            high, wide = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
            scaled = tf.cast(tf.round(tf.stack([high, wide]) * side / tf.minimum(high, wide)), tf.int32)
            image = tf.image.resize(image, scaled, antialias=True)
            top, left = tf.unstack((scaled - side) // 2)
            image = tf.image.crop_to_bounding_box(image, top, left, side, side)
            return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    return lambda position: (read(position), labels[position], position)


def _transform(feed: Feed, seed: int) -> Transform:
    """uint8 [n, side, side, 3] to normalised float32 [n, size, size, 3], or [n, 3, size, size]."""
    steps = [_step(complete(a), feed.image_size, seed + place) for place, a in enumerate(feed.augmentations)]
    mean, std = (np.asarray(value, np.float32) for value in (feed.normalisation.mean, feed.normalisation.std))
    crop = keras.layers.CenterCrop(feed.image_size, feed.image_size, data_format="channels_last")

    def transform(images: Any) -> Any:
        wide = tf.cast(images, tf.float32)
        for step in steps:
            wide = step(wide, training=True)
        wide = (crop(wide) / 255.0 - mean) / std
        return wide if feed.layout == "nhwc" else tf.transpose(wide, (0, 3, 1, 2))

    return transform


def _step(augmentation: Augmentation, size: int, seed: int) -> Any:
    p = augmentation.parameters
    facts = {"seed": seed, "data_format": "channels_last"}
    black = {"fill_mode": "constant", "fill_value": 0.0}
    steps: dict[str, Callable[[], Any]] = {
        "random-resized-crop": lambda: _RandomResizedCrop(size, p["scale"], p["ratio"], seed),
        "flip": lambda: _Flip(p["probability"], seed),
        "rotation": lambda: keras.layers.RandomRotation(p["degrees"] / 360, **black, **facts),
        "shear": lambda: keras.layers.RandomShear(x_factor=float(np.tan(np.radians(p["degrees"]))), **black, **facts),
        "centre-crop": lambda: keras.layers.CenterCrop(size, size, data_format="channels_last"),
    }
    return steps[augmentation.name]()


class _Flip:
    """Left and right exchanged with any probability; Keras' own layer knows one half only."""

    def __init__(self, probability: float, seed: int) -> None:
        self._probability, self._seed = probability, seed

    def __call__(self, images: Any, training: bool) -> Any:
        chosen = tf.random.uniform((tf.shape(images)[0], 1, 1, 1), seed=self._seed) < self._probability
        return tf.where(chosen, tf.image.flip_left_right(images), images)


class _RandomResizedCrop:
    """A box of `scale` to 1 of the area, 1/`ratio` to `ratio` wide per high, resized; tf.image does it in one pass."""

    def __init__(self, size: int, scale: float, ratio: float, seed: int) -> None:
        self._size, self._scale, self._ratio, self._seed = size, scale, float(np.log(ratio)), seed

    def __call__(self, images: Any, training: bool) -> Any:
        count, place = tf.shape(images)[0], [self._seed + offset * 7919 for offset in range(4)]
        area = tf.random.uniform((count,), self._scale, 1.0, seed=place[0])
        ratio = tf.exp(tf.random.uniform((count,), -self._ratio, self._ratio, seed=place[1]))
        high = tf.minimum(tf.sqrt(area / ratio), 1.0)
        wide = tf.minimum(tf.sqrt(area * ratio), 1.0)
        top = tf.random.uniform((count,), seed=place[2]) * (1.0 - high)
        left = tf.random.uniform((count,), seed=place[3]) * (1.0 - wide)
        boxes = tf.stack([top, left, top + high, left + wide], axis=1)
        return tf.image.crop_and_resize(images, boxes, tf.range(count), (self._size, self._size))
