"""One built network: backbone, pretrained head if any, new head, and facts about each of its tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import init
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torchvision.ops import StochasticDepth

from backends.pytorch.models import Parts
from harness.contract import Role
from harness.errors import Declined, Refused
from harness.running.initial_weights import MLP_DROPOUT, MLP_WIDTHS
from harness.spec import Frozen, Part

DROPPING = (_DropoutNd, StochasticDepth)
"""Modules that drop values in training, with the rate `p`."""

_DRAWS = {torch.Tensor.normal_, torch.Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_}


class Undrawn(TorchFunctionMode):  # type: ignore[misc]
    """Initialise parameters with zeros inside the block, for networks whose tensors are all loaded afterwards.

    A ResNet18 is built in a ninth of the time then. Buffers are drawn as usual.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if func in _DRAWS and isinstance(tensor, nn.Parameter):
            with torch.no_grad():
                return tensor.zero_()
        return func(*args, **kwargs)


class NamedTensor(NamedTuple):
    """A parameter or buffer, the module that owns it, its part, block and role."""

    name: str
    tensor: torch.Tensor
    owner: nn.Module
    part: Part
    block: int
    role: Role


class TorchNetwork:
    """Backbone and head as one module, and its tensors under canonical names, backbone first.

    The constructor moves the module to the device, because this replaces its buffers. Raises `Refused` for parts that
    do not fit together.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        head: nn.Module,
        device: torch.device,
        memory_format: torch.memory_format,
        dtype: torch.dtype | None = None,
    ) -> None:
        sections: OrderedDict[str, nn.Module] = OrderedDict(backbone=parts.backbone)
        if parts.pretrained_head is not None:
            sections["pretrained_head"] = parts.pretrained_head
        sections["head"] = head
        self.name, self.parts = name, parts
        self.module = nn.Sequential(sections).to(device=device, dtype=dtype, memory_format=memory_format)
        self.blocks = {
            module: block for block, group in enumerate(parts.blocks) for member in group for module in member.modules()
        }
        self.entries = self._entries()
        self.by_name = {entry.name: entry for entry in self.entries}

    @property
    def parameters(self) -> list[NamedTensor]:
        """The entries that are parameters; the others are buffers."""
        return [entry for entry in self.entries if isinstance(entry.tensor, nn.Parameter)]

    @property
    def norms(self) -> list[NamedTensor]:
        """The entries that are running means, one of each batch-norm layer."""
        return [entry for entry in self.entries if entry.role == "norm_mean"]

    def divided(self, part: Frozen) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """Return two functions that compute the network up to the end of a part, and from there to the logits."""
        backbone, *others = self.module
        if part == "backbone":
            return backbone, nn.Sequential(*others)
        if not self.parts.steps:
            raise Declined(
                f"{self.name} does not say how its blocks are computed one by one (`steps` of its parts), so features "
                "of its first blocks cannot be kept; use --features live"
            )
        return partial(_in_turn, self.parts.steps[: int(part)]), partial(
            _in_turn, (*self.parts.steps[int(part) :], *others)
        )

    def _entries(self) -> list[NamedTensor]:
        found = []
        for section, root in self.module.named_children():
            part: Part = "backbone" if section == "backbone" else "head"
            for path, tensor in root.state_dict(keep_vars=True).items():
                owner_path, _, attribute = path.rpartition(".")
                owner = root.get_submodule(owner_path)
                name = f"head.{path}" if section == "head" else path
                if part == "backbone" and owner not in self.blocks:
                    raise Refused(f"{self.name}: {name} is in no block of the backbone; add its module to `blocks`")
                role = _role(self.name, name, owner, attribute, tensor)
                block = self.blocks[owner] if part == "backbone" else -1
                found.append(NamedTensor(name, tensor, owner, part, block, role))
        return found


def _in_turn(steps: Iterable[Callable[[Any], Any]], inputs: Any) -> Any:
    for step in steps:
        inputs = step(inputs)
    return inputs


_STATISTICS: dict[str, Role] = {
    "running_mean": "norm_mean",
    "running_var": "norm_var",
    "num_batches_tracked": "counter",
}


def _role(model: str, name: str, owner: nn.Module, attribute: str, tensor: torch.Tensor) -> Role:
    if isinstance(owner, _BatchNorm) and attribute in _STATISTICS:
        return _STATISTICS[attribute]
    if not isinstance(tensor, nn.Parameter):
        raise Refused(f"{model}: buffer {name} is not a batch-norm statistic; register it with persistent=False")
    if isinstance(owner, (_BatchNorm, nn.GroupNorm, nn.LayerNorm)):
        return "norm_scale" if attribute == "weight" else "norm_bias"
    return "bias" if attribute == "bias" else "weight"


def new_head(kind: Literal["linear", "mlp"], features: int, classes: int) -> nn.Module:
    """Build the new classifier, with the layer names of `harness.running.initial_weights.HEAD_LAYERS`."""
    if kind == "linear":
        return nn.Linear(features, classes)
    first, second = MLP_WIDTHS
    layers: OrderedDict[str, Any] = OrderedDict()
    layers["0"], layers["relu0"] = nn.Linear(features, first), nn.ReLU()
    layers["dropout"] = nn.Dropout(MLP_DROPOUT)
    layers["1"], layers["relu1"] = nn.Linear(first, second), nn.ReLU()
    layers["2"] = nn.Linear(second, classes)
    return nn.Sequential(layers)


def drop_nothing(module: nn.Module) -> None:
    """Set the rate of every stochastic layer to 0: dropout, stochastic depth, efficientnet_pytorch's drop-connect."""
    for layer in module.modules():
        if isinstance(layer, DROPPING):
            layer.p = 0.0
        elif hasattr(layer, "_global_params"):
            layer._global_params = layer._global_params._replace(drop_connect_rate=0.0)
