"""A plain PyTorch script, the baseline of `benchmarks.studies.overhead`. It imports nothing of this project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray


def train(
    model: str,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    stage: Mapping[str, Any],
    after_step: Callable[[], None],
) -> None:
    """Fine-tune a torchvision network over channels-last batches, without end.

    `stage` holds classes, batch_size, lr, momentum, frozen and live_norm.
    """
    torch.set_flush_denormal(True)  # as in the harness, so that slow subnormal numbers affect neither
    network = getattr(torchvision.models, model)(num_classes=stage["classes"]).to(memory_format=torch.channels_last)
    if stage["frozen"]:
        for parameter in network.parameters():
            parameter.requires_grad = False
        for parameter in network.fc.parameters():
            parameter.requires_grad = True
    network.train(not stage["frozen"] or stage["live_norm"])
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=stage["lr"], momentum=stage["momentum"])
    criterion = torch.nn.CrossEntropyLoss()
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).split(stage["batch_size"])
    batches = list(zip(inputs, torch.from_numpy(labels).split(stage["batch_size"]), strict=True))
    while True:
        for batch, target in batches:
            optimizer.zero_grad()
            loss = criterion(network(batch), target)
            loss.backward()
            optimizer.step()
            after_step()
