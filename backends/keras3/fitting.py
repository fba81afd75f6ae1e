"""`model.fit` over the harness's feed, with a clock tick per optimizer step and no synchronisation in between.

The code of `fit` is unchanged: a Keras data adapter provides the data, a callback list observes the epochs, and a
wrapper around the function from `make_train_function` ticks the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from backends.keras3.engine import Engine
from backends.keras3.parallel.devices import data_parallel
from harness.clock import Clock
from harness.data.feed import Feed

Batches = Callable[[int], Iterator[tuple[Any, Any]]]
"""Prepares the batches (images, labels) of an epoch and returns them in order."""


class TracedModel(keras.Model):  # type: ignore[misc]
    """A functional model that counts the traces of its steps."""

    traces = 0
    _trainable = -1

    def train_step(self, *args: Any) -> Any:
        """Run Keras' own step. On a tracing engine, the body runs once per trace."""
        self.traces += 1
        return super().train_step(*args)

    def predict_step(self, *args: Any) -> Any:
        """Run Keras' own step."""
        self.traces += 1
        return super().predict_step(*args)

    def make_predict_function(self, force: bool = False) -> Any:
        """Make it anew if a stage froze or freed variables, since for JAX's devices it holds how many are trainable.

        The step is traced again then, as it is on one device.
        """
        before, self._trainable = self._trainable, len(self.trainable_variables)
        return super().make_predict_function(force or (data_parallel() > 1 and before != self._trainable))


class _LastLoss(keras.metrics.Metric):  # type: ignore[misc]
    """The loss of the latest step, instead of fit's running mean, as a scalar on the device."""

    def __init__(self) -> None:
        super().__init__(name="loss", dtype=keras.config.floatx())
        self.last = self.add_variable((), initializer="zeros", aggregation="mean", name="last")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        self.last.assign(ops.cast(values, self.last.dtype))

    def result(self) -> Any:
        return ops.copy(self.last)


class _Epochs(keras.callbacks.CallbackList):  # type: ignore[misc]
    """A callback list that opens and closes the clock's window per epoch; it does nothing per batch."""

    def __init__(self, model: Any, adapter: _FeedAdapter, clock: Clock, batches: Batches) -> None:
        super().__init__(add_history=True, model=model)
        self._adapter, self._clock, self._batches_of = adapter, clock, batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._adapter.ready = self._batches_of(epoch)
        self._clock.epoch_begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._clock.epoch_end()
        super().on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...


class _FeedAdapter(DataAdapter):  # type: ignore[misc]
    """The batches of the current epoch for each engine. No batch is fetched before fit requests the first one."""

    num_batches = batch_size = None
    has_partial_batch = False
    partial_batch_size = None

    def __init__(self, model: Any, feed: Feed, engine: Engine) -> None:
        self._engine = engine
        self.num_batches, self.batch_size = feed.steps_per_epoch, feed.batch_size
        # Before the first epoch, fit fetches one batch to learn the shapes.
        kind = keras.config.floatx() if feed.kept else "float32"
        blank = np.zeros((feed.batch_size, *model.input_shape[1:]), kind), np.zeros(feed.batch_size, np.int64)
        self.ready: Iterator[tuple[Any, Any]] = iter([blank])

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for images, labels in self.ready:
            yield ops.convert_to_tensor(images), ops.convert_to_tensor(labels)

    # With a plain iterator of tensors, fit calls the compiled step directly, not a graph that also reads tf.data.
    def get_tf_dataset(self) -> Any:
        return self._engine.shared(self)

    def get_jax_iterator(self) -> Iterator[tuple[Any, Any]]:
        # fit passes NumPy arrays to the compiled step on a CPU, and fetches one batch ahead on an accelerator.
        yield from self.ready

    def get_torch_dataloader(self) -> _FeedAdapter:
        return self


def fit(model: Any, epochs: int, feed: Feed, clock: Clock, batches: Batches, engine: Engine) -> None:
    """Train the compiled model; the engine receives the result of each step, which may still be in computation."""
    with engine.scope():
        model._loss_tracker = _LastLoss()
    # fit reads this at the end of an epoch; this call compiles it outside the first window.
    model.get_metrics_result()
    model.make_train_function()
    step = model.train_function

    def tick_after_step(*args: Any) -> Any:
        outcome = step(*args)
        logs = outcome[0] if isinstance(outcome, tuple) else outcome
        engine.note(outcome)
        clock.tick(logs["loss"])
        return outcome

    model.train_function = tick_after_step
    adapter = _FeedAdapter(model, feed, engine)
    model.fit(adapter, epochs=epochs, verbose=0, callbacks=_Epochs(model, adapter, clock, batches))
