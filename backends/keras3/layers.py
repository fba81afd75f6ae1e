"""Layers with torch's training semantics, under Keras' names so that files stay exchangeable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from backends.keras3.depthwise import DepthwiseConv2D
from backends.keras3.models import KerasNetwork


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch norm as torch.nn.BatchNorm2d trains it: the running variance follows the unbiased variance.

    `batch_statistics` says whether training uses and follows the batch; Keras ties that to `trainable`.
    `momentum` stays Keras' convention, one minus torch's. Both are read when a step is traced.
    """

    batch_statistics = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; raises ValueError where a channel has one value only, as torch does."""
        if not (training and self.batch_statistics):
            return self._normalise(inputs, self.moving_mean, self.moving_variance)
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = ops.moments(wide, axes=self._reduction_axes)
        count = ops.size(wide) / mean.shape[0] if None in wide.shape else _count(wide.shape, self._reduction_axes)
        if isinstance(count, int) and count < 2:
            raise ValueError(f"{self.name}: batch norm needs more than one value per channel; use a larger batch")
        ratio = count / (count - 1)  # a number as it is: TensorFlow's cast would make it float32 on the way
        unbiased = variance * (ratio if isinstance(ratio, float) else ops.cast(ratio, variance.dtype))
        for running, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            old = ops.cast(running, value.dtype)
            running.assign(old * self.momentum + value * (1.0 - self.momentum))
        return self._normalise(wide, mean, variance)

    def _normalise(self, inputs: Any, mean: Any, variance: Any) -> Any:
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance, offset, scale = (ops.cast(v, wide.dtype) for v in (mean, variance, self.beta, self.gamma))
        outputs = ops.batch_normalization(
            wide, mean, variance, axis=self.axis, offset=offset, scale=scale, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)


def _count(shape: tuple[int, ...], axes: list[int]) -> int:
    count = 1
    for axis in axes:
        count *= shape[axis]
    return count


class Dropout(keras.layers.Dropout):  # type: ignore[misc]
    """Dropout that a frozen block switches off (V13)."""

    active = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training, unless switched off."""
        return super().call(inputs, training=training and self.active)


_MATCHED = {keras.layers.BatchNormalization: BatchNormalization, keras.layers.Dropout: Dropout}
_SUMS = {keras.layers.DepthwiseConv2D: DepthwiseConv2D}
_STOCK = {ours: stock for stock, ours in (_MATCHED | _SUMS).items()}


def matched(network: KerasNetwork, *, depthwise_sums: bool) -> KerasNetwork:
    """The same network, its batch norm and dropout replaced by the ones of this module. Weights are fresh.

    With `depthwise_sums` depthwise convolutions too, by the layer of `backends.keras3.depthwise`.
    """
    return network._replace(backbone=_clone(network.backbone, _MATCHED | (_SUMS if depthwise_sums else {})))


def stock(model: Any) -> Any:
    """A copy of a model, weights included, made of Keras' own layers alone: it loads where this package is absent."""
    # A plain keras.Model around the same layers: neither our class nor a compiled state is copied.
    copy = _clone(keras.Model(model.input, model.output), _STOCK)
    copy.set_weights(model.get_weights())
    return copy


def _clone(model: Any, classes: dict[Any, Any]) -> Any:
    return keras.models.clone_model(model, clone_function=_swap(classes))


def _swap(classes: dict[Any, Any]) -> Callable[[Any], Any]:
    def swap(layer: Any) -> Any:
        kind = classes.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    return swap
