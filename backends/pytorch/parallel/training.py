"""The parts of a training step that differ with several devices: forward pass, random layers, and the loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from backends.pytorch.network import TorchNetwork
from backends.pytorch.parallel import draws, norm
from backends.pytorch.parallel.share import DeviceShare
from harness.spec import Case

_ACCEPTED = inspect.signature(DistributedDataParallel).parameters
_SENDS_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _ACCEPTED else "broadcast_buffers"
"""The option to send the statistics of the first device before each forward pass; torch 2.14 has a new name for it."""


class Ticking(Protocol):
    """The methods of `harness.clock.Clock` that a training loop calls."""

    def epoch_begin(self) -> None:
        """Open the window."""

    def tick(self, loss: Any) -> None:
        """Note a step."""

    def epoch_end(self) -> None:
        """Close the window."""


class SharedClock:
    """The clock of one of several processes. Only the first one has a real clock; it gets the losses of all devices.

    The losses of an epoch are averaged over the devices at once, at its end.
    """

    def __init__(self, clock: Ticking | None, devices: int, losses: torch.Tensor) -> None:
        self._clock, self._devices, self._losses, self._step = clock, devices, losses, 0

    def epoch_begin(self) -> None:
        """Open the window."""
        self._step = 0
        self._losses = torch.zeros_like(self._losses)
        if self._clock:
            self._clock.epoch_begin()

    def tick(self, loss: torch.Tensor) -> None:
        """Note a step with the mean loss of this device's rows."""
        self._losses[self._step] = loss
        if self._clock:
            self._clock.tick(self._losses[self._step])
        self._step += 1

    def epoch_end(self) -> None:
        """Average the losses and close the window."""
        distributed.all_reduce(self._losses)
        self._losses /= self._devices
        if self._clock:
            self._clock.epoch_end()


@contextmanager
def data_parallel(
    network: TorchNetwork, case: Case, share: DeviceShare, device: torch.device
) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """Yield the forward pass of this device's rows; a backward pass averages the gradients over all devices.

    The other processes take the weights of the first one. Every process does this together, after the stage's freezing.
    With `norm_scope="device"`, batch norm is that of torch, and the statistics of the first device are kept.
    """
    whole = case.norm_scope == "global"
    with ExitStack() as stack:
        if whole:
            stack.enter_context(norm.over_all_devices(network.module, share.of))
        draws.use_one_generator(device)
        stack.enter_context(draws.of_the_whole_batch(network.module, share))
        yield DistributedDataParallel(
            network.module,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **{_SENDS_BUFFERS: not whole},
        )
