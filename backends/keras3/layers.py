"""Layers with torch's training semantics; they keep Keras' class names, so saved files stay exchangeable."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from backends.keras3.depthwise import DepthwiseConv2D
from backends.keras3.models import KerasNetwork
from backends.keras3.parallel import devices
from harness import PREFIX


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch norm with the training semantics of torch.nn.BatchNorm2d: the running variance is unbiased.

    `batch_statistics` decides whether training uses the batch and updates the running statistics; in Keras `trainable`
    decides this. `momentum` follows Keras' convention, one minus torch's. Both are read when a step is traced.
    """

    batch_statistics = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise. Raise ValueError if a channel has only one value, as torch does."""
        if not (training and self.batch_statistics):
            return self._normalise(inputs, self.moving_mean, self.moving_variance)
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = ops.moments(wide, axes=self._reduction_axes)
        known = None not in wide.shape
        count = math.prod(wide.shape[i] for i in self._reduction_axes) if known else ops.size(wide) / mean.shape[0]
        if shared := devices.several():
            mean, variance = shared.moments(mean, variance)
            count = count * shared.replicas()
        if isinstance(count, int) and count < 2:
            raise ValueError(f"{self.name}: batch norm needs more than one value per channel; use a larger batch")
        ratio = count / (count - 1)  # a Python float is not cast, because TensorFlow would round it to float32
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


class Dropout(keras.layers.Dropout):  # type: ignore[misc]
    """A dropout layer that can be switched off in a frozen block (V13)."""

    active = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Apply dropout in training, unless switched off."""
        shared = devices.several()
        if shared and training and self.active and self.rate > 0:
            return shared.dropped(inputs, self.rate, self.noise_shape, self.seed_generator)
        return super().call(inputs, training=training and self.active)


_MATCHED = {keras.layers.BatchNormalization: BatchNormalization, keras.layers.Dropout: Dropout}
_SUMS = {keras.layers.DepthwiseConv2D: DepthwiseConv2D}
_STOCK = {ours: stock for stock, ours in (_MATCHED | _SUMS).items()}


def match(network: KerasNetwork, *, depthwise_sums: bool) -> None:
    """Give a network the batch norm and dropout of this module.

    With `depthwise_sums`, it also gets the depthwise convolution of `backends.keras3.depthwise`.
    """
    classes = _MATCHED | (_SUMS if depthwise_sums else {})
    for layer in network.backbone.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            # Seeds are those of a second layer, as when the network was copied, so that dropout drops what it dropped.
            copy = type(layer).from_config(layer.get_config())
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign(copy.seed_generator.state)
        # The subclasses add no state, so a built layer can become one. A copied network takes twice as long to build.
        layer.__class__ = classes.get(type(layer), type(layer))


def stock(model: Any) -> Any:
    """Return a copy of a model with its weights and only Keras' own layers, which loads without this package."""

    def copied(layer: Any) -> Any:
        return _STOCK.get(type(layer), type(layer)).from_config(layer.get_config())

    # The plain keras.Model around the same layers has neither our class nor a compiled state.
    copy = keras.models.clone_model(keras.Model(model.input, model.output), clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def dotted(kind: type) -> str:
    """Return the full name of a class as in a checkout, so that a certificate of an installed package is the same."""
    return f"{kind.__module__.removeprefix(PREFIX)}.{kind.__name__}"
