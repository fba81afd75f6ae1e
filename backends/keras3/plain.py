"""A plain Keras script, the baseline of `benchmarks.studies.overhead`. It imports nothing of this project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class _AfterStep(keras.callbacks.CallbackList):  # type: ignore[misc]
    # A CallbackList, because Keras converts the logs to floats after every step for a Callback.
    def __init__(self, after_step: Callable[[], None]) -> None:
        super().__init__()
        self._after_step = after_step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._after_step()


def train(
    model: str,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    stage: Mapping[str, Any],
    after_step: Callable[[], None],
) -> None:
    """Fine-tune a keras.applications MobileNetV2 with `model.fit` over in-memory images, without end.

    `stage` holds classes, batch_size, lr, momentum and frozen. Raises ValueError for another model, because
    keras.applications has no equal network.
    """
    if not model.startswith("mobilenet-v2"):
        raise ValueError(f"there is no plain Keras script for {model}; use a mobilenet-v2")
    width = float(model.removeprefix("mobilenet-v2-")) if model != "mobilenet-v2" else 1.0
    backbone = keras.applications.MobileNetV2(
        alpha=width, include_top=False, weights=None, pooling="avg", input_shape=images.shape[1:]
    )
    backbone.trainable = not stage["frozen"]
    inputs = keras.Input(images.shape[1:])
    outputs = keras.layers.Dense(stage["classes"])(backbone(inputs))
    network = keras.Model(inputs, outputs)
    network.compile(
        optimizer=keras.optimizers.SGD(stage["lr"], momentum=stage["momentum"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(stage["batch_size"], drop_remainder=True)
    network.fit(batches.repeat(), steps_per_epoch=10**9, verbose=0, callbacks=_AfterStep(after_step))
