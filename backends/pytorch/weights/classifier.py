"""How many classes a network really tells apart, whatever its layers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def output_width(output: Any) -> int | None:
    """Last side of the logits: of a tensor, of `logits`, or of the first thing in a tuple."""
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif isinstance(output, (tuple, list)) and output and not hasattr(output, "logits"):
        output = output[0]
    output = getattr(output, "logits", output)
    return int(output.shape[-1]) if isinstance(output, torch.Tensor) and output.dim() else None


_SIZES: tuple[tuple[type[nn.Module], str], ...] = ((nn.Linear, "out_features"), (nn.Conv2d, "out_channels"))


def in_name_only(model: nn.Module) -> Iterator[str]:
    """A sentence for each layer whose size is not that of its weight: `fc.out_features = 10` resizes nothing."""
    for name, module in model.named_modules():
        for kind, size in _SIZES:
            if isinstance(module, kind) and getattr(module, size) != module.weight.shape[0]:
                made = module.weight.shape[0]
                yield f"{name} was replaced in name only: {size} says {getattr(module, size)}, its weight makes {made}"
