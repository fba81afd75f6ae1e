"""keras.applications' EfficientNet (arXiv:1905.11946) from its stem on, under efficientnet_pytorch's names.

Padding, epsilon, squeeze-and-excitation and drop-connect are equal in both libraries. The rescaling and normalisation
layers that Keras puts before the stem are left out, because the checkpoint defines the input scaling.
"""

from __future__ import annotations

import math
from functools import partial

from backends.keras3.models.maps import Kind, MappedVariable, rows
from backends.keras3.models.network import KerasNetwork, image_shape
from harness.contract import Model

REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage at depth 1."""


def efficientnet(size: int, *, variant: str, depth: float) -> KerasNetwork:
    """Build the network for images of `size` pixels, without the classifier and the dropout before it."""
    import keras

    make = getattr(keras.applications, f"EfficientNet{variant}")
    whole = make(input_shape=image_shape(size), include_top=False, weights=None, pooling="avg")
    from_stem = keras.Model(whole.get_layer("stem_conv_pad").input, whole.output, name=whole.name)
    backbone = keras.models.clone_model(from_stem, input_tensors=keras.Input(image_shape(size)))
    return KerasNetwork(backbone, weight_map(depth))


def weight_map(depth: float) -> tuple[MappedVariable, ...]:
    """Return the rows of a network of this depth, in the tensor order of efficientnet_pytorch."""

    def pair(layer: str, norm: str, conv: str, after: str, block: int) -> tuple[MappedVariable, ...]:
        kind: Kind = "depthwise" if layer.endswith("dwconv") else "conv"
        return (*rows(layer, conv, kind, block, bias=False), *rows(norm, after, "norm", block))

    table = list(pair("stem_conv", "stem_bn", "_conv_stem", "_bn0", 0))
    stages = [math.ceil(depth * repeats) for repeats in REPEATS]
    places = [(stage, number) for stage, blocks in enumerate(stages, 1) for number in range(blocks)]
    for block, (stage, number) in enumerate(places, 1):
        layer, name = f"block{stage}{'abcdefghij'[number]}_", f"_blocks.{block - 1}."
        if stage > 1:
            table += pair(f"{layer}expand_conv", f"{layer}expand_bn", f"{name}_expand_conv", f"{name}_bn0", block)
        table += pair(f"{layer}dwconv", f"{layer}bn", f"{name}_depthwise_conv", f"{name}_bn1", block)
        table += rows(f"{layer}se_reduce", f"{name}_se_reduce", "conv", block)
        table += rows(f"{layer}se_expand", f"{name}_se_expand", "conv", block)
        table += pair(f"{layer}project_conv", f"{layer}project_bn", f"{name}_project_conv", f"{name}_bn2", block)
    table += pair("top_conv", "top_bn", "_conv_head", "_bn1", len(places) + 1)
    return tuple(table)


def _model(variant: str, depth: float, blocks: int, gmacs: float) -> Model:
    return Model(
        name=f"efficientnet-{variant.lower()}",
        build=partial(efficientnet, variant=variant, depth=depth),
        classifier="_fc.",
        initialisation="torch-default",
        blocks=blocks,
        gmacs=gmacs,
        about=f"keras.applications.EfficientNet{variant} without its preprocessing, exact to efficientnet_pytorch's",
    )


MODELS = (_model("B0", 1.0, 18, 0.39), _model("B3", 1.4, 28, 0.96))
