"""The tensors of any module: their names, kinds and values."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from harness.auditing.auditor import beginning
from harness.auditing.ledger import Kind


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, then buffers, by name; a shared tensor appears under each of its names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def members(model: nn.Module, one: Any) -> list[str] | None:
    """Return the names of the tensors in a part of the model, given as a module or a prefix of names.

    Returns None if `one` is neither; raises ValueError for a module of another model.
    """
    if isinstance(one, str):
        found = beginning(one, tensors_of(model), ".")
        names_a_module = one and one.removesuffix(".") in dict(model.named_modules())
        return found if found or names_a_module else None
    if not isinstance(one, nn.Module):
        return None
    if all(module is not one for module in model.modules()):
        raise ValueError(f"frozen: this {type(one).__name__} is not part of the model")
    inside = {id(tensor) for tensor in tensors_of(one).values()}
    return [name for name, tensor in tensors_of(model).items() if id(tensor) in inside]


_STATISTICS: dict[str, Kind] = {
    "running_mean": "statistic",
    "running_var": "statistic",
    "num_batches_tracked": "counter",
}


def kind(model: nn.Module, name: str, tensor: torch.Tensor) -> Kind:
    """Return the kind of a tensor; only statistics of torch's own normalisation layers are `statistic`."""
    if isinstance(tensor, nn.Parameter):
        return "parameter"
    path, _, attribute = name.rpartition(".")
    return _STATISTICS.get(attribute, "buffer") if isinstance(model.get_submodule(path), _NormBase) else "buffer"


def view(tensor: torch.Tensor) -> NDArray[Any]:
    """Return the memory of a tensor on the CPU, otherwise a copy; bfloat16, which NumPy lacks, as integers."""
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    found: NDArray[Any] = plain.numpy()
    return found
