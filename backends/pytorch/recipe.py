"""The declarations of a stage applied to a network: frozen tensors, modes of layers, and the optimizer."""

from __future__ import annotations

import torch

from backends.pytorch.network import TorchNetwork
from harness.errors import Refused
from harness.spec import Stage


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
