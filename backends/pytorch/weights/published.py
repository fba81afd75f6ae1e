"""The ImageNet weights of torchvision and efficientnet_pytorch.

Both libraries put the first digits of a file's SHA-256 at the end of its name. A test compares this table with the
libraries. torchvision's MobileNetV2 is left out because it was trained with another padding and epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.data.checkpoint import NORMALISATIONS, Published
from harness.data.imagenet_classes import CLASSES

_TORCHVISION = "https://download.pytorch.org/models"
_EFFICIENTNET = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0"


def _imagenet(address: str, digits: str) -> Published:
    normalisation = NORMALISATIONS["imagenet"]
    return Published(url=f"{address}-{digits}.pth", sha256=digits, normalisation=normalisation, classes=CLASSES)


IMAGENET: Mapping[str, Published] = {
    "resnet18": _imagenet(f"{_TORCHVISION}/resnet18", "f37072fd"),
    "resnet34": _imagenet(f"{_TORCHVISION}/resnet34", "b627a593"),
    "alexnet": _imagenet(f"{_TORCHVISION}/alexnet-owt", "7be5be79"),
    "efficientnet-b0": _imagenet(f"{_EFFICIENTNET}/efficientnet-b0", "355c32eb"),
    "efficientnet-b3": _imagenet(f"{_EFFICIENTNET}/efficientnet-b3", "5fb5a3c3"),
}
