"""Batch norms of a frozen part, folded into the convolutions before them: the same function in fewer operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_weights

from backends.pytorch.network import TorchNetwork
from harness.errors import Declined
from harness.spec import Stage

Folded = tuple[nn.Conv2d, nn.BatchNorm2d]


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

    def convolved(convolution: nn.Module, _: Any, output: torch.Tensor) -> None:
        if isinstance(convolution, nn.Conv2d):
            nodes[output.grad_fn] = convolution

    def before_norm(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        node = inputs[0].grad_fn
        if node in nodes and isinstance(norm, nn.BatchNorm2d):
            found[node] = (nodes[node], norm)

    modules = list(network.module.modules())
    hooks = [one.register_forward_hook(convolved) for one in modules if isinstance(one, nn.Conv2d)]
    hooks += [one.register_forward_pre_hook(before_norm) for one in modules if isinstance(one, nn.BatchNorm2d)]
    network.module.eval()
    try:
        with torch.enable_grad():
            logits = network.module(image.requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    readers, calls = _readers(logits.grad_fn), Counter(nodes.values())
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
