"""A plugin file with a small torch network that has batch norm and dropout, for checks on several devices."""

from __future__ import annotations

from typing import Any

from backends.pytorch.models import Parts
from harness.contract import Model


def build(image_size: int) -> Parts:
    """Two strided convolutions with batch norm and dropout, of 8 features."""
    from torch import nn

    def block(inputs: int, outputs: int) -> Any:
        layers = nn.Conv2d(inputs, outputs, 3, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        return nn.Sequential(*layers, nn.Dropout(0.2))

    first, second = block(3, 4), block(4, 8)
    backbone = nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return Parts(backbone=backbone, features=8, blocks=((first,), (second,)))


MODEL = Model(name="small-network", build=build, classifier="fc.", initialisation="torch-default", blocks=2)
MODELS = {"pytorch": [MODEL]}
