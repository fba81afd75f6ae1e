"""The probe of a session, for certificates: it uses the parts of the training step separately."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backends.pytorch import dropping, recipe
from backends.pytorch.network import NamedTensor
from backends.pytorch.session import TorchSession
from harness.contract import Norm, Stochastic
from harness.spec import Part, Stage


class TorchProbe:
    """A `harness.contract.Probe`. With bf16, features are converted to float32."""

    def __init__(self, session: TorchSession) -> None:
        self._session, self._network = session, session.network

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the inputs of each next block, so activation and pooling in between belong to the block before."""
        section = list(self._network.module.children())[1]
        entrances = (*(group[0] for group in self._network.parts.blocks[1:]), section)
        found: dict[int, NDArray[Any]] = {}
        handles = [module.register_forward_pre_hook(_keep(found, i)) for i, module in enumerate(entrances)]
        try:
            logits = self._session.predict(images)
        finally:
            for handle in handles:
                handle.remove()
        return [*(found[block] for block in range(len(entrances))), logits]

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """Call `backward` on the loss of `train`; clear the gradients afterwards."""
        session, network = self._session, self._network
        recipe.fix(network, stage, own_momentum=session.case.idiom)
        recipe.set_modes(network, stage)
        with session.arithmetic():
            targets = torch.from_numpy(labels).to(session.device)
            loss = session.loss(session.forward, session.place(images), targets, stage.label_smoothing)
            loss.backward()
        found = {}
        for entry in self._trained():
            if entry.tensor.grad is None:
                raise RuntimeError(f"{entry.name} is trainable, but no backward pass reached it")
            found[entry.name] = _array(entry.tensor.grad)
            entry.tensor.grad = None
        return float(loss.detach()), found

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Store the given gradients in `grad`, as `backward` does, and step."""
        session = self._session
        optimizer = session.begin(stage)
        for factor, gradients in zip(factors, tape, strict=True):
            recipe.set_rates(optimizer, factor)
            for entry in self._trained():
                entry.tensor.grad = torch.empty_like(entry.tensor).copy_(torch.from_numpy(gradients[entry.name]))
            with session.arithmetic():
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield {entry.name: _array(entry.tensor) for entry in self._trained()}

    def rates(self) -> dict[Part, float]:
        """Return the learning rate of each parameter group; empty before the first step."""
        if self._session.optimizer is None:
            return {}
        parts = {entry.tensor: entry.part for entry in self._network.parameters}
        return {parts[group["params"][0]]: float(group["lr"]) for group in self._session.optimizer.param_groups}

    def norms(self) -> list[Norm]:
        """Read the layers' current constants; the stage sets the momentum."""
        owners = {
            entry.owner: entry.name.rpartition(".")[0]
            for entry in self._network.entries
            if entry.role in ("norm_scale", "norm_mean")
        }
        return [Norm(name, float(owner.eps), getattr(owner, "momentum", None)) for owner, name in owners.items()]

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Call each layer in its mode for the stage; in a frozen block it returns ones unchanged."""
        recipe.fix(self._network, stage, own_momentum=self._session.case.idiom)
        recipe.set_modes(self._network, stage)
        return dropping.stochastic(self._network, self._session.black_image(), draws)

    def stand_ins(self) -> dict[str, str]:
        """Return nothing: torch's own semantics are the canonical ones."""
        return {}

    def _trained(self) -> list[NamedTensor]:
        return [entry for entry in self._network.parameters if entry.tensor.requires_grad]


def _keep(found: dict[int, NDArray[Any]], block: int) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, inputs: Any) -> None:
        found[block] = _array(inputs[0])

    return hook


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    # A copy, because the next operation may overwrite the tensor.
    plain = tensor.detach().cpu()
    return np.array((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy(), order="C", copy=True)
