"""A plugin file with a small torch network with batch norm and dropout, for checks that need no real network."""

from __future__ import annotations

import itertools
from typing import Any

from backends.pytorch.models import Parts
from harness.contract import Model

WIDTHS = (4, 8, 8)


def build(image_size: int) -> Parts:
    """Three strided convolutions with batch norm and dropout, of 8 features."""
    from torch import nn

    def block(inputs: int, outputs: int) -> Any:
        layers = nn.Conv2d(inputs, outputs, 3, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        return nn.Sequential(*layers, nn.Dropout(0.2))

    blocks = [block(*widths) for widths in itertools.pairwise((3, *WIDTHS))]
    steps = (*blocks, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)))
    backbone = nn.Sequential(*steps)
    return Parts(backbone=backbone, features=WIDTHS[-1], blocks=tuple((one,) for one in blocks), steps=steps)


MODEL = Model(name="small-network", build=build, classifier="fc.", initialisation="torch-default", blocks=len(WIDTHS))
MODELS = {"pytorch": [MODEL]}
