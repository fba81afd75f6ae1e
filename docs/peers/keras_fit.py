"""Keras' `fit` on TensorFlow, over images in memory, without progress bar. The model is MobileNetV2.

`model.keras` holds the one of keras.applications with Keras' own layers and the initial weights of the task. In Keras,
a layer that is not trainable also keeps its batch-norm statistics.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from task import Task

task = Task()
keras.config.set_floatx(task.dtype.name)
tf.config.threading.set_intra_op_parallelism_threads(task.threads)
tf.config.threading.set_inter_op_parallelism_threads(task.threads)


class StepDone(keras.callbacks.CallbackList):
    # A CallbackList, because Keras converts the logs to floats after every step for a Callback.
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        task.step_done(logs["loss"])  # the mean of the epoch so far


model = keras.saving.load_model(task.folder / "model.keras", compile=False)
for layer in model.layers:
    layer.trainable = not task.frozen or isinstance(layer, keras.layers.Dense)
model.compile(
    optimizer=keras.optimizers.SGD(task.lr, momentum=task.momentum),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
images = task.images()
order = tf.data.Dataset.from_tensor_slices(task.order.reshape(-1, task.batch_size))
batches = order.map(lambda chosen: (tf.gather(images, chosen), tf.gather(task.labels, chosen)))
steps = task.order.shape[1] // task.batch_size
model.fit(
    batches,
    epochs=task.epochs,
    steps_per_epoch=steps,
    verbose=0,
    shuffle=False,
    callbacks=StepDone(add_history=True, model=model),
)
means = np.array(task.losses, dtype=np.float64).reshape(task.epochs, steps)
count = np.arange(1, steps + 1)
task.losses = np.diff(means * count, axis=1, prepend=0.0).ravel().tolist()
task.write()
