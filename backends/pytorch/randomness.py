"""Which modules answer one batch in two ways (V13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, then buffers, by name; one that is used twice under each of its names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def frozen_modules(model: nn.Module, frozen: Collection[str], whole: Collection[Any] = ()) -> dict[nn.Module, str]:
    """Modules whose tensors are all frozen or that lie in such a one, with their names; `whole` names or is further."""
    held: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    for tensor in tensors_of(model):
        path = tensor
        while path:
            path = path.rpartition(".")[0]
            held[path] += 1
            fixed[path] += tensor in frozen
    names: set[str] = set()
    found: dict[nn.Module, str] = {}
    for name, module in model.named_modules():  # parents first
        parent = name.rpartition(".")[0] if name else None
        if parent in names or 0 < held[name] == fixed[name] or any(one is module or one == name for one in whole):
            names.add(name)
            found[module] = name
    return found


def random_modules(run: Callable[[], Any], model: nn.Module, frozen: Mapping[nn.Module, str]) -> tuple[str, ...]:
    """Names of the innermost frozen modules that, asked again while `run` passes, give another output bit for bit.

    Each is asked in the mode it is in. Random generators and buffers are afterwards what they were before.
    """
    kept: list[tuple[Any, Any]] = []
    differing: list[str] = []
    asking = False

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not asking:  # a module may write into its inputs
            kept.append(pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs)))

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal asking
        if asking:
            return
        args, kwargs = kept.pop()
        first = pytree.tree_map_only(torch.Tensor, torch.clone, output)
        asking = True
        try:
            again = module(*args, **kwargs)
        finally:
            asking = False
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
    inner = dict.fromkeys(differing)
    return tuple(one or "the model" for one in inner if not any(_is_inside(other, one) for other in inner))


def _is_inside(name: str, of: str) -> bool:
    return name != of and (not of or name.startswith(f"{of}."))


def _same(one: Any, other: Any) -> bool:
    ours, theirs = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, torch.Tensor)
    )


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
