"""The dropout and drop-connect layers of a network, found in one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from efficientnet_pytorch.model import MBConvBlock, drop_connect
from numpy.typing import NDArray
from torch import nn

from backends.pytorch.layers import canonical
from backends.pytorch.network import DROPPING, TorchNetwork
from harness.contract import Stochastic

Call = Callable[[torch.Tensor], torch.Tensor]


class _Found(NamedTuple):
    """A found layer. `flat`: its input is [n, features]; `on`: it was in training mode before the pass."""

    name: str
    module: nn.Module
    rate: float
    flat: bool
    on: bool
    call: Call


def stochastic(network: TorchNetwork, image: torch.Tensor, draws: int) -> list[Stochastic]:
    """Return the layers for `harness.contract.Probe.stochastic`, each drawn in its current mode."""
    return [
        Stochastic(one.name, *_place(network, one), one.rate, one.on, _draw(one, draws, image.dtype, image.device))
        for one in _watch(network, image)
    ]


def _watch(network: TorchNetwork, image: torch.Tensor) -> list[_Found]:
    owners = {entry.owner: entry.name.rpartition(".")[0] for entry in network.entries}
    modes = {module: module.training for module in network.module.modules()}
    found: list[_Found] = []
    latest = ""

    def follow(module: nn.Module, inputs: Any) -> None:
        nonlocal latest
        latest = owners[module]

    def note(module: nn.Module, inputs: Any) -> None:
        found.append(_Found(latest, module, float(module.p), inputs[0].dim() == 2, modes[module], module))

    def close(name: str, block: nn.Module, inputs: Any, options: dict[str, Any], output: Any) -> None:
        # The block drops with a function instead of a module, and only with a skip connection.
        rate = float(options.get("drop_connect_rate") or 0.0)
        call = partial(drop_connect, p=rate, training=modes[block])
        if _has_skip(block):
            found.append(_Found(name, block, rate, False, modes[block], call))

    handles = [owner.register_forward_pre_hook(follow) for owner in owners]
    for name, module in network.module.named_modules():
        if isinstance(module, DROPPING):
            handles.append(module.register_forward_pre_hook(note))
        elif isinstance(module, MBConvBlock):
            handles.append(module.register_forward_hook(partial(close, canonical(name)), with_kwargs=True))
    try:
        network.module.eval()
        with torch.inference_mode():
            network.module(image)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return found


def _has_skip(block: Any) -> bool:
    facts = block._block_args
    return bool(block.id_skip and facts.stride == 1 and facts.input_filters == facts.output_filters)


def _place(network: TorchNetwork, found: _Found) -> tuple[Any, int]:
    if found.module not in set(network.parts.backbone.modules()):
        return "head", -1
    before = (entry.block for entry in network.entries if entry.name.startswith(f"{found.name}."))
    return "backbone", network.blocks.get(found.module, next(before, 0))


def _draw(found: _Found, draws: int, dtype: torch.dtype, device: torch.device) -> NDArray[Any]:
    ones = torch.ones((draws, 12) if found.flat else (draws, 3, 2, 2), dtype=dtype, device=device)
    with torch.no_grad():
        outcome: NDArray[Any] = found.call(ones).cpu().numpy()
    return outcome.reshape(draws, 3, 2, 2)
