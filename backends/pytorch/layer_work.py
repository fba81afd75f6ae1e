"""The layers of a network as functions that compute one pass alone (`harness.ceiling.measure.Layered`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from backends.pytorch.layers import canonical, run_watched, trace
from backends.pytorch.network import TorchNetwork
from harness.ceiling.ceiling import Pass
from harness.ceiling.measure import LayerWork
from harness.errors import Declined

_ATEN = torch.ops.aten
_LAYOUTS = {"channels-last": torch.channels_last, "channels-first": torch.contiguous_format}
_ONE_LAYOUT = {"rows": torch.contiguous_format}
Passes = Mapping[Pass, Callable[[], object]]


class TensorKind(NamedTuple):
    """How a session computes: device, type of its arithmetic, type of its parameters, and its autocast context."""

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format
    autocast: Callable[[], AbstractContextManager[Any]]


def layer_work(network: TorchNetwork, image: torch.Tensor, batch_size: int, kind: TensorKind) -> Iterator[LayerWork]:
    """Yield the layers of a network for batches of images like `image` [1, 3, h, w].

    Convolutions and matrix products are timed with both memory layouts, all other layers as they are in training.
    """
    watched = _watch(network.module, image)
    for layer, seen in zip(trace(network.module, image), watched, strict=True):
        if layer.macs != sum(call.macs for call in seen.calls):
            raise Declined(
                f"{layer.name} of {network.name} ({layer.kind}) has arithmetic that is neither a convolution nor a "
                "product with a weight matrix, so the network has no ceiling"
            )
    until = _gradients(network, image)
    block = 0
    for seen in watched:
        shapes = "; ".join(call.written for call in seen.calls)
        of_backbone = seen.path.startswith("backbone.")
        block = network.blocks.get(seen.module, block) if of_backbone else -1
        if seen.calls:
            layouts = {
                name: partial(_arithmetic, seen.calls, batch_size, form, kind)
                for name, form in (_LAYOUTS if any(call.options for call in seen.calls) else _ONE_LAYOUT).items()
            }
        elif seen.shape:
            shapes = f"{seen.module} {tuple(seen.shape)}"
            layouts = {"as trained": partial(_other, seen.module, (batch_size, *seen.shape[1:]), kind)}
        else:
            continue
        yield LayerWork(
            name=canonical(seen.path),
            kind=type(seen.module).__name__,
            part="backbone" if of_backbone else "head",
            block=block,
            macs=sum(call.macs for call in seen.calls),
            gradient_until=until[seen.path],
            tensor_bytes=kind.dtype.itemsize * seen.elements(batch_size),
            alike=shapes,
            layouts=layouts,
        )


class _Call(NamedTuple):
    # A convolution or a product [rows, inputs] @ [outputs, inputs]'; shapes of one image.
    inputs: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    options: tuple[Any, ...]

    @property
    def macs(self) -> int:
        return math.prod(self.output) * math.prod(self.weight[1:])

    @property
    def written(self) -> str:
        return f"{self.inputs} {self.weight} {self.options}"


class _Seen(NamedTuple):
    path: str
    module: nn.Module
    shape: tuple[int, ...]
    output: tuple[int, ...]
    calls: tuple[_Call, ...]

    def elements(self, batch_size: int) -> int:
        """Return the elements of inputs, outputs and weights for a batch."""
        if not self.calls:
            return batch_size * (math.prod(self.shape) + math.prod(self.output))
        moved = (math.prod(call.inputs) + math.prod(call.output) for call in self.calls)
        return batch_size * sum(moved) + sum(math.prod(call.weight) for call in self.calls)


class _Watch(TorchDispatchMode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function is _ATEN.convolution.default:
            inputs, weight, _, *options = args
            self._note(inputs.shape, weight.shape, output.shape, tuple(map(_plain, options)))
        elif function in (_ATEN.mm.default, _ATEN.addmm.default):
            left, right = args[-2:]
            self._note(left.shape, right.t().shape, output.shape, ())
        return output

    def _note(self, inputs: Any, weight: Any, output: Any, options: tuple[Any, ...]) -> None:
        self.calls.append(_Call(tuple(inputs), tuple(weight), tuple(output), options))

    def take(self) -> tuple[_Call, ...]:
        taken = tuple(self.calls)
        self.calls.clear()
        return taken


def _plain(option: Any) -> Any:
    return tuple(option) if isinstance(option, (list, tuple)) else option


def _watch(module: nn.Module, image: torch.Tensor) -> list[_Seen]:
    """Return the layers in the order of their calls. A call counts for the layer whose forward pass ends next."""
    found: list[_Seen] = []
    watch = _Watch()

    def seen(path: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shape = tuple(inputs[0].shape) if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor) else ()
        found.append(_Seen(path, layer, shape, tuple(getattr(output, "shape", ())), watch.take()))

    with torch.no_grad(), watch:
        run_watched(module, image, seen)
    return found


def _gradients(network: TorchNetwork, image: torch.Tensor) -> dict[str, int]:
    """Return by layer the number of frozen blocks from which its input needs no gradient."""
    until: dict[str, int] = {}
    entries = network.parameters
    before = [entry.tensor.requires_grad for entry in entries]
    try:
        for frozen in range(max(network.blocks.values()) + 2):
            for entry in entries:
                entry.tensor.requires_grad_(entry.part == "head" or entry.block >= frozen)

            def seen(path: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any, frozen: int = frozen) -> None:
                needed = any(isinstance(one, torch.Tensor) and one.requires_grad for one in inputs)
                until[path] = frozen + 1 if needed else until.get(path, 0)

            run_watched(network.module, image, seen)
    finally:
        for entry, needed in zip(entries, before, strict=True):
            entry.tensor.requires_grad_(needed)
    return until


def _arithmetic(calls: tuple[_Call, ...], batch_size: int, form: torch.memory_format, kind: TensorKind) -> Passes:
    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        tensor = torch.randn(shape, device=kind.device, dtype=kind.dtype)
        return tensor.contiguous(memory_format=form) if len(shape) == 4 else tensor

    each = []
    for call in calls:
        inputs, output = ((batch_size * shape[0], *shape[1:]) for shape in (call.inputs, call.output))
        each.append(_passes(call, drawn(inputs), drawn(call.weight), drawn(output)))
    names: tuple[Pass, ...] = ("forward", "input gradient", "weight gradient")
    return {name: partial(_in_turn, [passes[name] for passes in each]) for name in names}


def _passes(call: _Call, inputs: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> Passes:
    if not call.options:
        return {
            "forward": lambda: functional.linear(inputs, weight),
            "input gradient": lambda: gradient @ weight,
            "weight gradient": lambda: gradient.t() @ inputs,
        }
    backward = partial(_ATEN.convolution_backward, gradient, inputs, weight, None, *call.options)
    return {
        "forward": lambda: _ATEN.convolution(inputs, weight, None, *call.options),
        "input gradient": lambda: backward([True, False, False]),
        "weight gradient": lambda: backward([False, True, False]),
    }


def _in_turn(functions: list[Callable[[], object]]) -> list[object]:
    return [function() for function in functions]


def _other(module: nn.Module, shape: tuple[int, ...], kind: TensorKind) -> Passes:
    layer = copy.deepcopy(module).train()
    inputs = torch.randn(shape, device=kind.device, dtype=kind.dtype)
    if len(shape) == 4:
        inputs = inputs.contiguous(memory_format=kind.memory_format)
    inputs.requires_grad_()

    def forward() -> torch.Tensor:
        with torch.no_grad(), kind.autocast():
            outputs: torch.Tensor = layer(inputs)
            return outputs

    with kind.autocast():
        output = layer(inputs.clone())  # a copy, because a layer may work in place
    gradient = torch.ones_like(output)
    wanted = [inputs, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    return {
        "forward": forward,
        "input gradient": lambda: torch.autograd.grad(output, wanted, gradient, retain_graph=True),
    }
