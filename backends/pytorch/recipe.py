"""A stage applied to a network: frozen tensors, modes of layers, the optimizer, and folded batch norms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_weights

from backends.pytorch.layers import run_watched
from backends.pytorch.network import TorchNetwork
from harness.errors import Declined, Refused
from harness.spec import Stage

Folded = tuple[nn.Conv2d, nn.BatchNorm2d]
"""A convolution and the batch norm that is folded into it."""


def fix(network: TorchNetwork, stage: Stage, *, own_momentum: bool) -> None:
    """Set which tensors get gradients and the momentum of statistics, once per stage."""
    blocks = len(network.parts.blocks)
    if isinstance(stage.frozen, int) and stage.frozen > blocks:
        raise Refused(f"{network.name} has {blocks} blocks; use frozen = {blocks} or less, not {stage.frozen}")
    for entry in network.parameters:
        entry.tensor.requires_grad_(not stage.is_frozen(entry.part, entry.block))
        entry.tensor.grad = None
    if not own_momentum:
        for entry in network.norms:
            entry.owner.momentum = stage.bn_momentum


def set_modes(network: TorchNetwork, stage: Stage) -> None:
    """Set training mode, inference mode for frozen blocks, and the stage's batch-norm mode, once per epoch."""
    network.module.train()
    if stage.frozen == "backbone":
        network.parts.backbone.eval()
    for block, group in enumerate(network.parts.blocks):
        if stage.is_frozen("backbone", block):
            for module in group:
                module.eval()
    for entry in network.norms:
        entry.owner.train(stage.uses_batch_statistics(entry.part, entry.block))


def make_optimizer(network: TorchNetwork, stage: Stage, *, fused: bool = False) -> torch.optim.Optimizer:
    """Create the optimizer over the trainable tensors, with a group for each part, also for one with rate 0.

    Each group keeps its base learning rate as `base_lr`. Without `fused`, torch chooses the kernels.
    """
    groups = []
    for part in ("backbone", "head"):
        tensors = [e.tensor for e in network.parameters if e.part == part and e.tensor.requires_grad]
        if tensors:
            rate = stage.learning_rate(part)
            groups.append({"params": tensors, "lr": rate, "base_lr": rate})
    rule, decay, kernel = stage.optimizer, stage.weight_decay, True if fused else None
    if rule.name == "sgd":
        constants = {"momentum": rule.momentum, "dampening": 0, "nesterov": False}
        return torch.optim.SGD(groups, lr=stage.head_lr, weight_decay=decay, fused=kernel, **constants)
    kind = torch.optim.Adam if rule.name == "adam" else torch.optim.AdamW
    return kind(
        groups, lr=stage.head_lr, betas=rule.betas, eps=rule.eps, weight_decay=decay, amsgrad=False, fused=kernel
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply every group's base learning rate by the schedule's factor, before each step."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class CountingScaler(torch.amp.GradScaler):  # type: ignore[misc]
    """torch's scaler of the loss for fp16, which counts the updates that it skips because a gradient is not finite."""

    skipped = 0

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Choose the scale of the next step; a skipped update makes it smaller."""
        before = self.get_scale()
        super().update(new_scale)
        self.skipped += self.get_scale() < before


def foldable(network: TorchNetwork, stage: Stage, image: torch.Tensor) -> list[Folded]:
    """Return each batch norm that a stage keeps fixed and whose input is a frozen convolution that nothing else reads.

    They are found in the graph of one forward pass of `image` [1, 3, h, w], so a model does not have to list them.
    Raises `Declined` if the stage has a fixed part without one.
    """
    if stage.fixed_part == "none":
        return []
    fixed = {
        entry.owner
        for entry in network.entries
        if stage.is_frozen(entry.part, entry.block) and not stage.uses_batch_statistics(entry.part, entry.block)
    }
    nodes: dict[Any, nn.Conv2d] = {}
    found: dict[Any, Folded] = {}
    last = None

    def seen(path: str, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal last
        last = output.grad_fn
        if isinstance(layer, nn.Conv2d):
            nodes[last] = layer
        elif isinstance(layer, nn.BatchNorm2d) and (node := inputs[0].grad_fn) in nodes:
            found[node] = (nodes[node], layer)

    with torch.enable_grad():
        run_watched(network.module, image.requires_grad_(), seen)
    readers, calls = _readers(last), Counter(nodes.values())
    pairs = [
        pair for node, pair in found.items() if readers[node] == 1 and calls[pair[0]] == 1 and fixed.issuperset(pair)
    ]
    if not pairs:
        raise Declined(f"no frozen convolution of {network.name} is followed by a batch norm; leave out --fold-norms")
    return pairs


@contextmanager
def folded(pairs: Sequence[Folded]) -> Iterator[None]:
    """Compute each pair as one convolution during the block; the tensors of the network keep their values."""
    own = [(convolution, convolution.weight, convolution.bias) for convolution, _ in pairs]
    for convolution, norm in pairs:
        statistics = norm.running_mean, norm.running_var, norm.eps
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, *statistics, norm.weight, norm.bias
        )
        norm.forward = _unchanged
    try:
        yield
    finally:
        for convolution, weight, bias in own:
            convolution.weight, convolution.bias = weight, bias
        for _, norm in pairs:
            del norm.forward


def _unchanged(inputs: torch.Tensor) -> torch.Tensor:
    return inputs


def _readers(last: Any) -> Counter[Any]:
    """Count the operations that read the result of each operation of a graph."""
    counts: Counter[Any] = Counter()
    waiting = [last]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None:
                counts[node] += 1
                if counts[node] == 1:
                    waiting.append(node)
    return counts
