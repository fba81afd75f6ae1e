"""The parts of a torch network, and those of a torchvision ResNet, for a plugin with a torch model."""

from __future__ import annotations

from backends.pytorch.models import Parts, resnet_parts

__all__ = ["Parts", "resnet_parts"]
