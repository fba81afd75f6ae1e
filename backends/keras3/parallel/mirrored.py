"""TensorFlow's `MirroredStrategy`: each device has its rows of a batch, and a copy of all variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import record


class SharedBatches(tf.distribute.DistributedDataset):  # type: ignore[misc]
    """The batches of an adapter; device r of n gets the r-th of n equal parts of the rows."""

    def __init__(self, batches: Any, strategy: Any) -> None:
        self._batches, self._strategy = batches, strategy

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for images, labels in self._batches:
            yield self._shared(images), self._shared(labels)

    def _shared(self, rows: Any) -> Any:
        parts = tf.split(rows, self._strategy.num_replicas_in_sync)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )


def strategy(kind: str, devices: int) -> Any:
    """Return the strategy over the first devices of a kind, `cpu` or `cuda`."""
    names = [device.name for device in tf.config.list_logical_devices("GPU" if kind == "cuda" else "CPU")]
    # On a CPU, TensorFlow's default collectives of the forward and the backward pass get each other's values.
    to_one = tf.distribute.ReductionToOneDevice() if kind == "cpu" else None
    return tf.distribute.MirroredStrategy(names[:devices], cross_device_ops=to_one)


def divide_processor(devices: int) -> str | None:
    """Let TensorFlow divide the CPU into this number of devices, before its first computation; return why it cannot."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    found = tf.config.get_logical_device_configuration(cpu)
    if found is not None and len(found) >= devices:
        return None
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    except RuntimeError:
        return f"TensorFlow runs in this process already, so that it cannot have {devices} devices"
    return None


def count_devices(kind: str) -> int:
    """Return the number of devices of this kind, `cpu` or `cuda`, without starting TensorFlow's runtime."""
    if kind == "cuda":
        return len(tf.config.list_physical_devices("GPU"))
    return len(tf.config.get_logical_device_configuration(tf.config.list_physical_devices("CPU")[0]) or [None])


def replicas() -> int:
    """Return the number of devices that compute the step which is now traced; 1 outside a step."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def summed(gradients: list[Any]) -> list[Any]:
    """Return the sums of the gradients over the devices; Keras has divided each loss by the number of devices."""
    return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients))


def moments(mean: Any, variance: Any) -> tuple[Any, Any]:
    """Return the mean and the biased variance of a whole batch from those of a device's rows."""
    whole = _averaged(mean)
    return whole, _averaged(variance + tf.square(mean - whole))


def _averaged(value: Any) -> Any:
    """Return the average over the devices; its gradient is the average of their gradients.

    `all_reduce` of a replica context is the same, but each call searches the whole graph for variables: MobileNetV2
    took three minutes to trace.
    """

    def average(strategy: Any, values: Any) -> Any:
        return strategy.extended.reduce_to(tf.distribute.ReduceOp.MEAN, values, values)

    found = tf.distribute.get_replica_context().merge_call(average, (value,))
    record.record_operation("average_over_devices", [found], [value], lambda upstream: [_averaged(upstream)])
    return found


def dropped(inputs: Any, rate: float, noise_shape: Any, seed: Any) -> Any:
    """Return a device's rows after dropout with their part of the mask that one device draws for the batch."""
    context = tf.distribute.get_replica_context()
    rows, place = inputs.shape[0], context.replica_id_in_sync_group
    whole = tf.ones((rows * context.num_replicas_in_sync, *inputs.shape[1:]), inputs.dtype)
    mask = keras.random.dropout(whole, rate, noise_shape, seed)
    return inputs * mask[place * rows : (place + 1) * rows]
