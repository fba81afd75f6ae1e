"""The models of this backend, one builder and one weight map each. Keras is imported inside the builders only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from backends.keras3 import maps
from harness.contract import Model


class Network(NamedTuple):
    """What a builder returns: a functional keras.Model from images to pooled features [n, width], and its map.

    Blocks are the map's. A layer without variables, such as dropout, belongs to the block of the one before it.
    """

    backbone: Any
    table: tuple[maps.Row, ...]


class Source(NamedTuple):
    """Where the framework's own weights come from: the file's name in its cache, and the address it is fetched from."""

    file: str
    url: str


WIDTHS = {0.35: 0.059, 0.5: 0.097, 0.75: 0.209, 1.0: 0.3, 1.3: 0.509, 1.4: 0.582}
"""Widths with published weights, and their GMAC at 224 px."""
NORM_EPSILON = 1e-3


def mobilenet_v2(size: int, *, alpha: float = 1.0) -> Network:
    """keras.applications.MobileNetV2 (arXiv:1801.04381) for images of `size` pixels, without its classifier."""
    import keras

    shape = (3, size, size) if keras.config.image_data_format() == "channels_first" else (size, size, 3)
    backbone = keras.applications.MobileNetV2(
        input_shape=shape, alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    return Network(backbone, maps.MOBILENET_V2)


def _mobilenet_v2_of(width: float) -> Model:
    return Model(
        name="mobilenet-v2" if width == 1.0 else f"mobilenet-v2-{width:g}",
        build=partial(mobilenet_v2, alpha=width),
        classifier="classifier.1.",
        blocks=19,
        minimum_size=32,
        gmacs=WIDTHS[width],
        about=f"keras.applications.MobileNetV2, width {width:g}",
    )


def _mobilenet_v2_source(width: float) -> Source:
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224.h5"
    return Source(file, f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{file}")


MODELS: Mapping[str, Model] = {model.name: model for model in map(_mobilenet_v2_of, WIDTHS)}
SOURCES: Mapping[str, Source] = {_mobilenet_v2_of(width).name: _mobilenet_v2_source(width) for width in WIDTHS}
"""Named ImageNet weights with their classifier, for images scaled to [-1, 1]."""

CLASSIFIER_LAYER = "predictions"
"""The name keras.applications gives the Dense layer of a source classifier."""

Build = Callable[[int], Network]
