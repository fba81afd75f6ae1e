"""The layers of a network and their arithmetic, seen in one forward pass."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from harness.contract import Layer

_SECTIONS = ("backbone.", "pretrained_head.")
_NO_ARITHMETIC = (nn.Identity, nn.Dropout, nn.Flatten, nn.ZeroPad2d)


def trace(module: nn.Module, image: torch.Tensor) -> list[Layer]:
    """Layers in the order of their calls, for one image [1, 3, h, w]; leaves the training mode as it was.

    A multiply-accumulate counts once; convolutions and linear layers are counted, as is usual, and nothing else.
    """
    found: list[Layer] = []
    modes = {layer: layer.training for layer in module.modules()}
    handles = [
        layer.register_forward_hook(_record(canonical(name), found))
        for name, layer in module.named_modules()
        if _is_listed(layer)
    ]
    try:
        module.eval()
        with torch.inference_mode():
            module(image)
    finally:
        for handle in handles:
            handle.remove()
        for layer, training in modes.items():
            layer.training = training
    return found


def _is_listed(layer: nn.Module) -> bool:
    holds = any(True for _ in layer.parameters(recurse=False))
    leaf = not any(True for _ in layer.children())
    return holds or (leaf and not isinstance(layer, _NO_ARITHMETIC))


def canonical(name: str) -> str:
    """A module's path in the whole network as its tensors are prefixed."""
    for section in _SECTIONS:
        name = name.removeprefix(section)
    return name


def _record(name: str, found: list[Layer]) -> object:
    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        parameters = sum(p.numel() for p in layer.parameters(recurse=False))
        found.append(Layer(name, type(layer).__name__, tuple(output.shape[1:]), parameters, _macs(layer, output)))

    return hook


def _macs(layer: nn.Module, output: torch.Tensor) -> int:
    if isinstance(layer, _ConvNd):
        return int(output[0].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size))
    return int(output[0].numel() * layer.in_features) if isinstance(layer, nn.Linear) else 0
