"""Batch norm over the batch of all devices.

`torch.nn.SyncBatchNorm` does the same, but refuses tensors on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import Declined


@contextmanager
def over_all_devices(module: nn.Module, devices: int) -> Iterator[None]:
    """Let every batch norm use the statistics of all devices in the block, where it uses those of the batch.

    Every device calls the layers in the same order, with batches of one size. Raises `Declined` for a layer with code
    of its own.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    own = next((type(layer) for layer in norms if type(layer).forward is not _BatchNorm.forward), None)
    if own is not None:
        raise Declined(f"{own.__name__} is a batch norm with code of its own; use --norm-scope device, or one device")
    for layer in norms:
        layer.forward = partial(_forward, layer, devices)
    try:
        yield
    finally:
        for layer in norms:
            del layer.forward


def _forward(layer: _BatchNorm, devices: int, inputs: torch.Tensor) -> torch.Tensor:
    if not layer.training and layer.running_mean is not None:
        return _BatchNorm.forward(layer, inputs)
    layer._check_input_dim(inputs)
    outputs, mean, variance = _GlobalNorm.apply(inputs, layer.weight, layer.bias, layer.eps, devices)
    if layer.training and layer.running_mean is not None and layer.running_var is not None:
        count = devices * inputs.numel() // inputs.shape[1]
        _move_statistics(layer, mean, variance * (count / (count - 1)))
    found: torch.Tensor = outputs
    return found


def _move_statistics(layer: _BatchNorm, mean: torch.Tensor, unbiased: torch.Tensor) -> None:
    # Both are marked as not differentiable, so that the running statistics are outside the graph.
    momentum = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if momentum is None:  # a cumulative mean
            momentum = 1.0 / float(layer.num_batches_tracked)
    for running, new in ((layer.running_mean, mean), (layer.running_var, unbiased)):
        if running is not None:
            running.lerp_(new.to(running.dtype), float(momentum or 0.0))


class _GlobalNorm(torch.autograd.Function):  # type: ignore[misc]
    """Inputs [n, c, ...] of this device to outputs, and mean and biased variance [c] over all devices."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, devices: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Exchange mean and variance once; they are united without a difference of large sums."""
        wide = inputs.float() if inputs.dtype in (torch.bfloat16, torch.float16) else inputs
        axes = _axes(inputs)
        own = torch.stack(torch.var_mean(wide, axes, correction=0))
        shares = [torch.empty_like(own) for _ in range(devices)]
        distributed.all_gather(shares, own)
        variances, means = torch.stack(shares).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
        inverse = torch.rsqrt(variance + eps)
        normal = (wide - _wide(mean, inputs)) * _wide(inverse, inputs)
        outputs = normal
        if weight is not None:
            outputs = outputs * _wide(weight, inputs)
        if bias is not None:
            outputs = outputs + _wide(bias, inputs)
        ctx.save_for_backward(normal, weight, inverse)
        ctx.devices = devices
        ctx.mark_non_differentiable(mean, variance)
        return outputs.to(inputs.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> Any:
        """Return the gradients; those of weight and bias are of this device, for DistributedDataParallel to average."""
        normal, weight, inverse = ctx.saved_tensors
        wide, axes = gradient.to(normal.dtype), _axes(normal)
        sums = torch.stack((wide.sum(axes), (wide * normal).sum(axes)))
        of_bias, of_weight = sums.clone().unbind(0)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            distributed.all_reduce(sums)
            mean, projection = (sums / (ctx.devices * normal.numel() // normal.shape[1])).unbind(0)
            scale = inverse if weight is None else inverse * weight
            of_inputs = wide - _wide(mean, normal) - normal * _wide(projection, normal)
            of_inputs = (of_inputs * _wide(scale, normal)).to(gradient.dtype)
        needs = ctx.needs_input_grad
        return of_inputs, of_weight if needs[1] else None, of_bias if needs[2] else None, None, None


def _axes(inputs: torch.Tensor) -> list[int]:
    return [0, *range(2, inputs.dim())]


def _wide(values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return [c] as [1, c, 1, ...], for inputs of any number of axes."""
    return values.view(1, -1, *[1] * (inputs.dim() - 2))
