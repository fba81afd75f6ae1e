"""Dropout and drop-connect of one device's share of a batch: the masks that one device draws for these rows.

Each device draws for the whole batch, from a generator in the same state, and uses its own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import efficientnet_pytorch.model as efficientnet
import torch
from torch import distributed, nn

from backends.pytorch.network import DROPPING
from backends.pytorch.parallel.share import DeviceShare


def use_one_generator(device: torch.device) -> None:
    """Give the generators of every process the state of the first one."""
    state = torch.get_rng_state()
    distributed.broadcast(state, src=0)
    torch.set_rng_state(state)
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
        distributed.broadcast(state, src=0)
        torch.cuda.set_rng_state(state, device)


@contextmanager
def of_the_whole_batch(module: nn.Module, share: DeviceShare) -> Iterator[None]:
    """Let every known random layer draw for the whole batch in the block.

    These are torch's dropout modules, torchvision's stochastic depth, and efficientnet_pytorch's drop-connect, which is
    a function.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, DROPPING)]
    original = efficientnet.drop_connect
    for layer in layers:
        layer.forward = partial(_dropped, layer, share)
    efficientnet.drop_connect = partial(_drop_connect, original, share)
    try:
        yield
    finally:
        efficientnet.drop_connect = original
        for layer in layers:
            del layer.forward


def _dropped(layer: Any, share: DeviceShare, inputs: torch.Tensor) -> torch.Tensor:
    if not layer.training or layer.p == 0.0:
        return inputs
    factors: torch.Tensor = type(layer).forward(layer, _ones(share, inputs))
    return inputs * factors[share.rows(len(factors))]


def _drop_connect(original: Any, share: DeviceShare, inputs: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    if not training:
        return inputs
    draws: torch.Tensor = original(inputs.new_ones(share.of * len(inputs), 1, 1, 1), p, training)
    kept = (draws[share.rows(len(draws))] != 0).to(inputs.dtype)
    return inputs / (1 - p) * kept


def _ones(share: DeviceShare, inputs: torch.Tensor) -> torch.Tensor:
    """Return ones for the whole batch. Masks are drawn in the order of the memory, so its layout is that of inputs."""
    ones = inputs.new_ones((share.of * len(inputs), *inputs.shape[1:]))
    last = inputs.dim() == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
    return ones.contiguous(memory_format=torch.channels_last) if last and not inputs.is_contiguous() else ones
