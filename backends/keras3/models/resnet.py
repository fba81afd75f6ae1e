"""ResNet (arXiv:1512.03385) with basic blocks, identical to torchvision's; Keras has no ResNet of this depth."""

from __future__ import annotations

from functools import partial
from typing import Any

from backends.keras3.models.maps import MappedVariable, rows
from backends.keras3.models.network import KerasNetwork, image_shape
from harness.contract import Model

WIDTHS = (64, 128, 256, 512)


def resnet(size: int, *, depths: tuple[int, ...]) -> KerasNetwork:
    """Build the network for images of `size` pixels, without its classifier; `depths`: basic blocks of each layer."""
    import keras

    image = keras.Input(image_shape(size))
    # Strided convolutions are padded equally on both sides, as in torch; Keras' "same" pads one side more (V06).
    x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = _convolved(x, 64, 7, 2, "conv1", "bn1")
    x = keras.layers.ReLU(name="relu1")(x)
    # After a ReLU no value is below 0, so padding with zeros does not change the maximum.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    for name, place, stride in _blocks(depths):
        x = _basic_block(x, WIDTHS[place - 1], stride, name.replace(".", "_"))
    features = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
    return KerasNetwork(keras.Model(image, features, name="resnet"), weight_map(depths))


def _blocks(depths: tuple[int, ...]) -> list[tuple[str, int, int]]:
    # Name, number of the layer (from 1) and stride of each basic block.
    return [
        (f"layer{place}.{number}", place, 2 if place > 1 and number == 0 else 1)
        for place, depth in enumerate(depths, 1)
        for number in range(depth)
    ]


def _basic_block(x: Any, width: int, stride: int, name: str) -> Any:
    from keras import layers

    shortcut, inner = x, x
    if stride > 1:
        shortcut = _convolved(x, width, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1")
        inner = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    inner = _convolved(inner, width, 3, stride, f"{name}_conv1", f"{name}_bn1")
    inner = layers.ReLU(name=f"{name}_relu1")(inner)
    inner = _convolved(inner, width, 3, 1, f"{name}_conv2", f"{name}_bn2")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([inner, shortcut]))


def _convolved(x: Any, width: int, kernel: int, stride: int, name: str, norm: str) -> Any:
    from keras import config, layers

    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    channels = 1 if config.image_data_format() == "channels_first" else -1
    return layers.BatchNormalization(axis=channels, epsilon=1e-5, name=norm)(x)


def weight_map(depths: tuple[int, ...]) -> tuple[MappedVariable, ...]:
    """Return the rows of a network with these depths, in torchvision's tensor order."""

    def pair(conv: str, norm: str, block: int) -> tuple[MappedVariable, ...]:
        return (
            *rows(conv.replace(".", "_"), conv, "conv", block, bias=False),
            *rows(norm.replace(".", "_"), norm, "norm", block),
        )

    table = list(pair("conv1", "bn1", 0))
    for name, place, stride in _blocks(depths):
        table += pair(f"{name}.conv1", f"{name}.bn1", place)
        table += pair(f"{name}.conv2", f"{name}.bn2", place)
        if stride > 1:
            table += pair(f"{name}.downsample.0", f"{name}.downsample.1", place)
    return tuple(table)


def _model(name: str, gmacs: float, *depths: int) -> Model:
    return Model(
        name=name,
        build=partial(resnet, depths=depths),
        classifier="fc.",
        blocks=5,
        gmacs=gmacs,
        about="functional, exact to torchvision's",
    )


MODELS = (_model("resnet18", 1.82, 2, 2, 2, 2), _model("resnet34", 3.67, 3, 4, 6, 3))
