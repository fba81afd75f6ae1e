"""A plugin file with a small Keras network with batch norm in every block, for checks that need no real network."""

from __future__ import annotations

from backends.keras3.models import KerasNetwork, maps
from backends.keras3.models.network import image_shape
from harness.contract import Model

WIDTHS = (4, 8, 8)


def build(image_size: int) -> KerasNetwork:
    """Three strided convolutions with batch norm, of 8 features."""
    import keras

    inputs = x = keras.Input(image_shape(image_size))
    for number, filters in enumerate(WIDTHS):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    rows = [
        row
        for number in range(len(WIDTHS))
        for row in (
            *maps.rows(f"conv{number}", f"{number}.0", "conv", number, bias=False),
            *maps.rows(f"norm{number}", f"{number}.1", "norm", number),
        )
    ]
    return KerasNetwork(keras.Model(inputs, pooled), tuple(rows))


MODEL = Model(name="small-network", build=build, classifier="head.", initialisation="torch-default", blocks=len(WIDTHS))
MODELS = {"keras3": [MODEL]}
