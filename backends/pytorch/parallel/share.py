"""The share of one device in each batch, and how the first process deals the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from harness.data.feed import Batch


class DeviceShare(NamedTuple):
    """Device `rank` (from 0) of a number of devices."""

    rank: int
    of: int

    def rows(self, batch_size: int) -> slice:
        """Return the rows of this device in a batch.

        >>> DeviceShare(1, 2).rows(8)
        slice(4, 8, None)
        """
        size = batch_size // self.of
        return slice(self.rank * size, (self.rank + 1) * size)


def deal(batches: Iterable[Batch], devices: int) -> Iterator[Batch]:
    """Send every other process its rows of each batch; yield the rows of this process."""
    for batch in batches:
        parts = [DeviceShare(rank, devices).rows(len(batch.ids)) for rank in range(devices)]
        for whole in (batch.inputs, batch.labels):
            tensors = [torch.from_numpy(np.ascontiguousarray(whole[rows])) for rows in parts]
            distributed.scatter(torch.empty_like(tensors[0]), tensors, src=0)
        yield Batch(*(array[parts[0]] for array in batch))


def receive(steps: int, shape: tuple[int, ...]) -> Iterator[Batch]:
    """Receive the rows of this process of as many batches; `shape` is that of its inputs. The ids are not sent."""
    for _ in range(steps):
        inputs, labels = torch.empty(shape), torch.empty(shape[0], dtype=torch.int64)
        for tensor in (inputs, labels):
            distributed.scatter(tensor, None, src=0)
        ids: NDArray[Any] = np.full(shape[0], -1)
        yield Batch(ids, inputs.numpy(), labels.numpy())
