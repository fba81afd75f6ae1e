"""The native pipeline of Keras on TensorFlow: tf.data with Keras' preprocessing layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.keras3.weights import files
from harness.data.augment import complete
from harness.data.feed import Feed
from harness.errors import Declined
from harness.spec import Augmentation

Transform = Callable[[Any], Any]


class Pipeline:
    """The batches of a stage in tf.data's order and with Keras' augmentation, both seeded with the feed's seed.

    Raises `Declined` if TensorFlow would train on other pixels than the evaluation uses; see `files.sources`.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed, self._side = feed, int(feed.split.images.shape[1])
        self._sources = files.sources(feed.split)
        count, parallel = len(feed.split.labels), feed.workers or None
        dataset = tf.data.Dataset.range(count).shuffle(count, seed=feed.seed)  # another order at each iteration
        dataset = dataset.map(self._sample(), num_parallel_calls=parallel)
        dataset = dataset.batch(feed.batch_size, drop_remainder=True)
        transform = _transform(feed)
        dataset = dataset.map(lambda images, *rest: (transform(images), *rest), num_parallel_calls=parallel)
        self.dataset = dataset.prefetch(2).with_options(_options(feed.workers))

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        """Yield the whole batches (images, labels) of one epoch; note waiting times and samples in the feed."""
        start = time.perf_counter_ns()
        try:
            for images, labels, positions in self.dataset:
                self._feed.waited_ns += time.perf_counter_ns() - start
                self._feed.delivered.saw(positions.numpy())
                yield images, labels
                start = time.perf_counter_ns()
        except tf.errors.InvalidArgumentError as error:
            broken = files.unreadable(self._sources, self._side) if self._sources else []
            if not broken:
                raise
            raise Declined(
                f"TensorFlow cannot read {len(broken)} training images, such as {files.names(broken[:3])}; "
                "use --input stream, or save them again"
            ) from error

    def _sample(self) -> Transform:
        split, side, sources = self._feed.split, self._side, self._sources
        labels = tf.constant(split.labels, tf.int64)

        def stored(position: Any) -> Any:
            return np.asarray(split.images[split.ids[int(position)]])

        if sources is None:

            def read(position: Any) -> Any:
                return tf.numpy_function(stored, [position], tf.uint8, stateful=False)

        else:
            paths, orientations = tf.constant(sources.paths), tf.constant(sources.orientations)
            turning = set(sources.orientations) != {1}

            def read(position: Any) -> Any:
                return files.decoded(paths[position], orientations[position], side, turning=turning)

        return lambda position: (tf.ensure_shape(read(position), (side, side, 3)), labels[position], position)


def _options(workers: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    # Autotuning has nothing to tune here. Its thread doubles its sleeping time, and the deletion of an epoch's iterator
    # sometimes waits for it: the first step of a second epoch once took 7 s.
    options.autotune.enabled = False
    # TensorFlow's default pool has one thread, which the training step needs.
    options.threading.private_threadpool_size = max(1, workers)
    return options


def _transform(feed: Feed) -> Transform:
    # From uint8 [n, side, side, 3] to normalised float32 [n, size, size, 3] or [n, 3, size, size].
    steps = [
        _step(complete(a), feed.image_size, feed.seed * 1_000_003 + place) for place, a in enumerate(feed.augmentations)
    ]
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
    """A horizontal flip with any probability; the probability of Keras' own layer is always one half."""

    def __init__(self, probability: float, seed: int) -> None:
        self._probability, self._seed = probability, keras.random.SeedGenerator(seed)

    def __call__(self, images: Any, training: bool) -> Any:
        chosen = keras.random.uniform((images.shape[0], 1, 1, 1), dtype="float32", seed=self._seed) < self._probability
        return tf.where(chosen, tf.image.flip_left_right(images), images)


class _RandomResizedCrop:
    """A box of `scale` to 1 of the area, width / height from 1/`ratio` to `ratio`, cropped and resized by tf.image."""

    def __init__(self, size: int, scale: float, ratio: float, seed: int) -> None:
        self._size, self._scale, self._ratio = size, scale, float(np.log(ratio))
        self._seed = keras.random.SeedGenerator(seed)

    def __call__(self, images: Any, training: bool) -> Any:
        count = images.shape[0]
        share, aspect, top, left = tf.unstack(keras.random.uniform((4, count), dtype="float32", seed=self._seed))
        area = self._scale + (1.0 - self._scale) * share
        ratio = tf.exp(self._ratio * (2.0 * aspect - 1.0))
        high = tf.minimum(tf.sqrt(area / ratio), 1.0)
        wide = tf.minimum(tf.sqrt(area * ratio), 1.0)
        top, left = top * (1.0 - high), left * (1.0 - wide)
        boxes = tf.stack([top, left, top + high, left + wide], axis=1)
        return tf.image.crop_and_resize(images, boxes, tf.range(count), (self._size, self._size))
