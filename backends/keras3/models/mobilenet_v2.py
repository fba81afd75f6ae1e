"""keras.applications' MobileNetV2 (arXiv:1801.04381) of any width, under torchvision's names."""

from __future__ import annotations

from functools import partial

from backends.keras3.models.maps import Kind, MappedVariable, rows
from backends.keras3.models.network import KerasNetwork, image_shape
from backends.keras3.models.published import MOBILENET_V2
from harness.contract import Model

WIDTHS = {0.35: 0.059, 0.5: 0.097, 0.75: 0.209, 1.0: 0.3, 1.3: 0.509, 1.4: 0.582}
"""Widths with published weights, and their GMAC at 224 px."""


def mobilenet_v2(size: int, *, alpha: float = 1.0) -> KerasNetwork:
    """Build the network for images of `size` pixels, without its classifier."""
    import keras

    backbone = keras.applications.MobileNetV2(
        input_shape=image_shape(size), alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    return KerasNetwork(backbone, WEIGHT_MAP)


def _weight_map() -> tuple[MappedVariable, ...]:
    def pair(layer: str, norm: str, conv: str, after: str, kind: Kind, block: int) -> tuple[MappedVariable, ...]:
        prefix = f"features.{block}."
        return (*rows(layer, prefix + conv, kind, block, bias=False), *rows(norm, prefix + after, "norm", block))

    table = list(pair("Conv1", "bn_Conv1", "0", "1", "conv", 0))
    table += pair("expanded_conv_depthwise", "expanded_conv_depthwise_BN", "conv.0.0", "conv.0.1", "depthwise", 1)
    table += pair("expanded_conv_project", "expanded_conv_project_BN", "conv.1", "conv.2", "conv", 1)
    for block in range(2, 18):
        layer = f"block_{block - 1}_"
        table += pair(f"{layer}expand", f"{layer}expand_BN", "conv.0.0", "conv.0.1", "conv", block)
        table += pair(f"{layer}depthwise", f"{layer}depthwise_BN", "conv.1.0", "conv.1.1", "depthwise", block)
        table += pair(f"{layer}project", f"{layer}project_BN", "conv.2", "conv.3", "conv", block)
    table += pair("Conv_1", "Conv_1_bn", "0", "1", "conv", 18)
    return tuple(table)


WEIGHT_MAP = _weight_map()


def _model(width: float) -> Model:
    return Model(
        name="mobilenet-v2" if width == 1.0 else f"mobilenet-v2-{width:g}",
        build=partial(mobilenet_v2, alpha=width),
        classifier="classifier.1.",
        blocks=19,
        gmacs=WIDTHS[width],
        about=f"keras.applications.MobileNetV2, width {width:g}",
        published={"imagenet": MOBILENET_V2[width]},
    )


MODELS = tuple(map(_model, WIDTHS))
