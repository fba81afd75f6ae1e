"""The real number of outputs of a network, independent of the attributes of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def output_width(output: Any) -> int | None:
    """Return the width of the logits, given as a tensor, as `logits` of an object, or first in a tuple."""
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif isinstance(output, (tuple, list)) and output and not hasattr(output, "logits"):
        output = output[0]
    output = getattr(output, "logits", output)
    return int(output.shape[-1]) if isinstance(output, torch.Tensor) and output.dim() else None


_SIZES: tuple[tuple[type[nn.Module], str], ...] = ((nn.Linear, "out_features"), (nn.Conv2d, "out_channels"))


def in_name_only(model: nn.Module) -> Iterator[str]:
    """Yield a sentence for each layer whose size differs from its weight: `fc.out_features = 10` does not resize it."""
    for name, module in model.named_modules():
        for kind, size in _SIZES:
            if isinstance(module, kind) and getattr(module, size) != module.weight.shape[0]:
                width = module.weight.shape[0]
                yield f"{name} was replaced in name only: {size} is {getattr(module, size)}, its weight has {width}"
