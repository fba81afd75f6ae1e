"""The freeze audit of a torch model, from hooks on autograd, optimizers and modules during a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from backends.pytorch.randomness import frozen_modules, random_modules
from backends.pytorch.tensors import kind, members, tensors_of, view
from backends.pytorch.weights.classifier import in_name_only, output_width
from harness.auditing.audit import Observed
from harness.auditing.auditor import CurrentTensor, Frozen, chosen
from harness.auditing.ledger import OnDemand, Slots, TensorChange, Watched, out_of_reach
from harness.spec import Optimizer

_SIGN = "a backward pass computed it"


@dataclass
class _Steps:
    """Facts about the optimizer steps of one parameter.

    `held`: an optimizer has it; `rated`: at a rate above 0; `reached`: it had a gradient. `by_…`: causes of a movement.
    """

    held: bool = False
    rated: bool = False
    reached: bool = False
    by_gradient: bool = False
    by_decay: bool = False
    by_momentum: bool = False


class TorchWatch:
    """A `harness.auditing.auditor.Watch`. It examines the given optimizer and every optimizer that steps.

    The test for random modules runs at the first step, when the modules are in their training modes.
    """

    def __init__(
        self, model: nn.Module, frozen: Frozen, optimizer: torch.optim.Optimizer | None, batch: Any, classes: int | None
    ) -> None:
        self._model, self._batch, self._classes = model, batch, classes
        self._given = [] if optimizer is None else [optimizer]
        self._optimizers = list(self._given)
        names = tensors_of(model)
        self.frozen, self._whole = chosen(frozen, names, partial(members, model))

    def begin(self) -> None:
        """Add hooks to the gradients of frozen parameters, to every optimizer step, and to the output."""
        self._optimizers = list(self._given)
        self._steps: dict[str, _Steps] = {}
        self._paid: dict[str, str] = {}
        self._hooked: set[str] = set()
        self._random: tuple[str, ...] | None = None
        self._width: int | None = None
        self._names: dict[torch.Tensor, list[str]] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            self._names.setdefault(parameter, []).append(name)
        self._handles: list[Any] = [register_optimizer_step_pre_hook(self._before_step)]
        if self._classes is not None:
            self._handles.append(self._model.register_forward_hook(self._after_forward))
        self._hook_gradients()

    def end(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()

    def _hook_gradients(self) -> None:
        for parameter, names in self._names.items():
            for name in names:
                if name in self.frozen and name not in self._hooked and parameter.requires_grad:
                    self._hooked.add(name)
                    self._handles.append(parameter.register_hook(partial(self._pay, name)))
                    if parameter.grad is not None and self._steps:
                        self._paid[name] = _SIGN

    def _pay(self, name: str, gradient: torch.Tensor) -> None:
        self._paid[name] = _SIGN

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._width = output_width(output)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        of_model = [
            (name, parameter, group)
            for group in optimizer.param_groups
            for parameter in group["params"]
            for name in self._names.get(parameter, ())
        ]
        if not of_model:
            return
        if all(one is not optimizer for one in self._optimizers):
            self._optimizers.append(optimizer)
        for name, parameter, group in of_model:
            steps = self._steps.setdefault(name, _Steps(held=True))
            steps.rated = steps.rated or float(group["lr"]) > 0
            if parameter.grad is not None:
                steps.reached = True
                if name not in self.frozen:
                    self._paid[name] = _SIGN
                else:
                    _attribute(steps, parameter.grad, group, optimizer.state.get(parameter, {}))
        self._hook_gradients()
        self._find_random()

    def _find_random(self) -> None:
        if self._random is None and self._batch is not None and self.frozen:
            modules = frozen_modules(self._model, self.frozen, self._whole)
            self._random = random_modules(self._pass, self._model, modules)

    def _pass(self) -> Any:
        batch = self._batch
        if isinstance(batch, Mapping):
            return self._model(**batch)
        return self._model(*batch) if isinstance(batch, (tuple, list)) else self._model(batch)

    def tensors(self) -> Iterator[CurrentTensor]:
        """Yield views of tensors on the CPU, otherwise one copy at a time."""
        for name, tensor in tensors_of(self._model).items():
            yield CurrentTensor(name, view(tensor), kind(self._model, name, tensor))

    def slots(self) -> Slots:
        """Return the state of the optimizers found so far."""
        found: dict[str, OnDemand] = {}
        for optimizer in self._optimizers:
            for name, parameter in self._model.named_parameters(remove_duplicate=False):
                if parameter in optimizer.state:
                    state = optimizer.state[parameter]
                    held = {slot: value for slot, value in state.items() if isinstance(value, torch.Tensor)}
                    found[name] = OnDemand({slot: partial(view, value) for slot, value in held.items()})
        return found

    def excuses(self, tensor: Watched, slots: Mapping[str, NDArray[Any]]) -> bool:
        """Return True without another cause, if the optimizer's state explains it or cannot be read."""
        if self._hindrance(tensor.name):
            return False
        parameter = self._model.get_parameter(tensor.name)
        for optimizer in self._optimizers:
            rule = _rule(optimizer)
            for group in optimizer.param_groups:
                if rule and slots and tensor.array.dtype.kind == "f" and any(p is parameter for p in group["params"]):
                    return out_of_reach(tensor.array, slots, rule, float(group["lr"]), group["weight_decay"])
        return True

    def explain(self, line: TensorChange) -> str:
        """Explain from the observed optimizer steps."""
        if line.kind != "parameter":
            return ""
        if not line.moved:
            return self._hindrance(line.name)
        steps = self._steps.get(line.name, _Steps())
        if not steps.reached:
            return "no optimizer updated it"
        if steps.by_gradient:
            return "an optimizer holds it and it got gradients"
        causes = {"weight decay": steps.by_decay, "momentum from before": steps.by_momentum}
        named = " and ".join(cause for cause, true in causes.items() if true)
        return f"its gradient was 0, {named} moved it" if named else ""

    def _hindrance(self, name: str) -> str:
        steps = self._steps.get(name, _Steps())
        hindrances = {
            "requires_grad is False": not self._model.get_parameter(name).requires_grad,
            "no optimizer stepped": not self._steps,
            "no optimizer that stepped holds it": not steps.held,
            "it got no gradient": not steps.reached,
            "its learning rate is 0": not steps.rated,
        }
        return next((hindrance for hindrance, true in hindrances.items() if true), "")

    def observed(self, lines: list[TensorChange]) -> Observed:
        """Return the observations. If no optimizer has stepped, random modules are looked for now."""
        self._find_random()
        unchecked, others = [], []
        if self._classes is not None:
            if self._width is None and self._batch is not None:
                with torch.no_grad():
                    self._width = output_width(self._pass())
            if self._width is None:
                unchecked.append("the output's width: the model was not called")
            elif self._width != self._classes:
                others.append(f"the output has width {self._width} although there are {self._classes} classes")
                others += in_name_only(self._model)
        for name in self._paid:
            steps = self._steps.get(name)
            if steps is not None and steps.held and not steps.rated:
                self._paid[name] += ", at learning rate 0"
        return Observed(self._paid, self._random, others=tuple(others), unchecked=tuple(unchecked))


def _attribute(steps: _Steps, gradient: torch.Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    # Note the cause of the next movement of a frozen parameter.
    if steps.by_gradient:
        return
    if gradient.is_sparse or bool(gradient.any()):
        steps.by_gradient = True
        return
    steps.by_decay = steps.by_decay or bool(group.get("weight_decay"))
    slots = (value for value in state.values() if isinstance(value, torch.Tensor) and value.shape == gradient.shape)
    steps.by_momentum = steps.by_momentum or any(bool(slot.any()) for slot in slots)


def _rule(optimizer: torch.optim.Optimizer) -> Optimizer | None:
    if isinstance(optimizer, torch.optim.SGD):
        return Optimizer(name="sgd")
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is a subclass
        name: Any = "adamw" if isinstance(optimizer, torch.optim.AdamW) else "adam"
        return Optimizer(name=name, eps=float(optimizer.defaults["eps"]))
    return None
