"""The layers of a network and their arithmetic, from one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from harness.contract import Layer

_SECTIONS = ("backbone.", "pretrained_head.")
_MANY_WEIGHTS = 12
"""From how many weights per input and output of a batch a convolution is computed channels-first."""
_NO_ARITHMETIC = (nn.Identity, nn.Dropout, nn.Flatten, nn.ZeroPad2d)
Seen = Callable[[str, nn.Module, tuple[Any, ...], Any], None]
"""Gets the path of a layer, the layer, its inputs and its output."""


def trace(module: nn.Module, image: torch.Tensor) -> list[Layer]:
    """Return the layers in the order of their calls, for one image [1, 3, h, w]; restore the training mode.

    A multiply-accumulate counts once, for the layer that ends next. torch counts only those of convolutions and matrix
    products.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes most of a second to import

    found: list[Layer] = []
    counter = FlopCounterMode(display=False)

    def seen(path: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        parameters = sum(p.numel() for p in layer.parameters(recurse=False))
        macs = counter.get_total_flops() // 2 - sum(earlier.macs for earlier in found)
        found.append(Layer(canonical(path), type(layer).__name__, tuple(output.shape[1:]), parameters, macs))

    with torch.no_grad(), counter:
        run_watched(module, image, seen)
    return found


def run_watched(module: nn.Module, image: torch.Tensor, seen: Seen) -> None:
    """Run a forward pass in inference mode and call `seen` after each listed layer; restore the training mode."""
    modes = {layer: layer.training for layer in module.modules()}
    handles = [
        layer.register_forward_hook(partial(seen, path)) for path, layer in module.named_modules() if is_listed(layer)
    ]
    try:
        module.eval()
        module(image)
    finally:
        for handle in handles:
            handle.remove()
        for layer, training in modes.items():
            layer.training = training


def use_channels_first(module: nn.Module, image: torch.Tensor, batch_size: int) -> int:
    """Compute each convolution channels-first that has far more weights than inputs; return how many there are.

    `image` [1, 3, h, w] is one image of a batch. On a CPU, oneDNN converts channels-last weights and their gradients in
    every step. In the last block of a ResNet18 with images of 64 px, that takes as long as the convolution itself.
    """
    found = []

    def seen(path: str, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            moved = batch_size * (inputs[0].numel() + output.numel())
            if layer.weight.numel() > _MANY_WEIGHTS * moved:
                found.append(layer)

    with torch.inference_mode():
        run_watched(module, image, seen)
    for convolution in found:
        convolution.to(memory_format=torch.contiguous_format)
        convolution.register_forward_pre_hook(_channels_first)
    return len(found)


def _channels_first(convolution: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return inputs[0].contiguous()


def is_listed(layer: nn.Module) -> bool:
    """Return whether a module is a layer: it has parameters of its own, or no children and some arithmetic."""
    holds = any(True for _ in layer.parameters(recurse=False))
    leaf = not any(True for _ in layer.children())
    return holds or (leaf and not isinstance(layer, _NO_ARITHMETIC))


def canonical(name: str) -> str:
    """Return the prefix of a module's canonical tensor names from its path in the whole network."""
    for section in _SECTIONS:
        name = name.removeprefix(section)
    return name
