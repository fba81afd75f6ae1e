"""The gradients that a stage computes, and detection of modules whose output for one batch is random (V13, V16)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torchvision.ops import StochasticDepth

from backends.pytorch import recipe
from backends.pytorch.layers import canonical
from backends.pytorch.network import TorchNetwork
from backends.pytorch.tensors import tensors_of
from harness.auditing.audit import DROPPED_OF, Observed
from harness.auditing.auditor import innermost
from harness.spec import Stage

_PIXELS = 8 * 64 * 64
"""Pixels of the batch that tests the frozen part of a session; the batch has at least two images."""


def observe(network: TorchNetwork, stage: Stage, image: torch.Tensor) -> Observed:
    """Observe a stage of the harness's own loop: its computed gradients and its random frozen modules.

    `image` [1, 3, h, w] gives the size. Afterwards the layers are in the stage's modes.
    """
    paid = {entry.name: "a backward pass computed it" for entry in network.parameters if entry.tensor.requires_grad}
    recipe.set_modes(network, stage)
    frozen = {module for module, block in network.blocks.items() if stage.is_frozen("backbone", block)}
    if stage.frozen == "backbone":
        frozen.add(network.parts.backbone)
    names = {module: name for name, module in network.module.named_modules() if module in frozen}
    count = min(8, max(2, _PIXELS // image[0, 0].numel()))
    noise = torch.rand((count, *image.shape[1:]), generator=torch.Generator().manual_seed(0), dtype=image.dtype)

    def run() -> None:
        network.module(noise.to(image.device))
        for module in names:
            if isinstance(module, StochasticDepth):
                module(image.new_ones(DROPPED_OF, 1, 1, 1))

    return Observed(paid, tuple(map(canonical, random_modules(run, network.module, names))) if names else ())


def frozen_modules(model: nn.Module, frozen: Collection[str], whole: Collection[Any] = ()) -> dict[nn.Module, str]:
    """Return the modules whose tensors are all frozen, those in `whole`, and all modules inside them, with names."""
    held: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    for tensor in tensors_of(model):
        path = tensor
        while path:
            path = path.rpartition(".")[0]
            held[path] += 1
            fixed[path] += tensor in frozen
    beginnings = {one.removesuffix(".") for one in whole if isinstance(one, str)}
    names: set[str] = set()
    found: dict[nn.Module, str] = {}
    for name, module in model.named_modules():  # parents first
        parent = name.rpartition(".")[0] if name else None
        named = name in beginnings or any(one is module for one in whole)
        if named or parent in names or 0 < held[name] == fixed[name]:
            names.add(name)
            found[module] = name
    return found


def random_modules(run: Callable[[], Any], model: nn.Module, frozen: Mapping[nn.Module, str]) -> tuple[str, ...]:
    """Return the names of the innermost frozen modules that give two different outputs when called twice in `run`.

    Each module keeps its mode. Random generators and buffers are restored afterwards.
    """
    kept: list[tuple[Any, Any]] = []
    differing: list[str] = []
    repeating = False

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not repeating:  # copies, because a module may change its inputs
            kept.append(pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs)))

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal repeating
        if repeating:
            return
        args, kwargs = kept.pop()
        first = pytree.tree_map_only(torch.Tensor, torch.clone, output)
        repeating = True
        try:
            again = module(*args, **kwargs)
        finally:
            repeating = False
        if not _same(first, again):
            differing.append(frozen[module])

    handles = [
        handle
        for module in frozen
        for handle in (
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        )
    ]
    try:
        with torch.no_grad(), _undisturbed(model):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return innermost(differing, ".")


def _same(one: Any, other: Any) -> bool:
    ours, theirs = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(ours) == len(theirs) and all(
        torch.equal(_bits(a), _bits(b)) for a, b in zip(ours, theirs, strict=True) if isinstance(a, torch.Tensor)
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    devices = {tensor.device.index for tensor in model.parameters() if tensor.device.type == "cuda"}
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=sorted(index for index in devices if index is not None)):
            yield
    finally:
        for buffer, value in before:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
