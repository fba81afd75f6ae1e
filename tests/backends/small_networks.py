"""A plugin: a network of three small blocks for each framework, in which a scenario is traced and compiled quickly."""

from __future__ import annotations

import itertools
from typing import Any

from backends.keras3.models import KerasNetwork, maps
from backends.keras3.models.network import image_shape
from backends.pytorch.models import Parts
from harness.contract import Model

NAME = "three-blocks"
WIDTHS = (4, 8, 8)


def of_torch(image_size: int) -> Parts:
    """Strided convolutions, each with a batch norm, and 8 features."""
    from torch import nn

    def block(inputs: int, outputs: int) -> Any:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    blocks = [block(*widths) for widths in itertools.pairwise((3, *WIDTHS))]
    steps = (*blocks, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)))
    return Parts(
        backbone=nn.Sequential(*steps), features=WIDTHS[-1], blocks=tuple((one,) for one in blocks), steps=steps
    )


def of_keras(image_size: int) -> KerasNetwork:
    """The same layers."""
    import keras

    inputs = x = keras.Input(image_shape(image_size))
    rows = []
    for number, filters in enumerate(WIDTHS):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        rows += maps.rows(f"conv{number}", f"{number}.0", "conv", number, bias=False)
        rows += maps.rows(f"norm{number}", f"{number}.1", "norm", number)
    return KerasNetwork(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)), tuple(rows))


def _model(build: Any, classifier: str) -> Model:
    return Model(name=NAME, build=build, classifier=classifier, initialisation="torch-default", blocks=len(WIDTHS))


MODELS = {"pytorch": [_model(of_torch, "fc.")], "keras3": [_model(of_keras, "head.")]}
