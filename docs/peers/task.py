"""The common part of these scripts: the task of `benchmarks.studies.peers`, and the time and loss of each step."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class Order:
    """A sampler of a torch DataLoader with the order of the task: the next epoch at each iteration."""

    def __init__(self, epochs: np.ndarray) -> None:
        self.epochs, self.next = epochs, 0

    def __iter__(self) -> Iterator[int]:
        self.next += 1
        return iter(self.epochs[self.next - 1].tolist())

    def __len__(self) -> int:
        return self.epochs.shape[1]


class Task:
    """The folder given on the command line: images, labels, order, initial weights, and the recipe."""

    def __init__(self) -> None:
        self.folder = Path(sys.argv[1])
        facts = json.loads((self.folder / "task.json").read_text())
        self.batch_size, self.classes, self.frozen = facts["batch_size"], facts["classes"], facts["frozen"]
        self.lr, self.momentum, self.threads = facts["lr"], facts["momentum"], facts["threads"]
        self.mean, self.std, self.dtype = facts["mean"], facts["std"], np.dtype(facts["dtype"])
        self.order = np.load(self.folder / "order.npy")  # [epochs, images of an epoch]
        self.epochs = len(self.order)
        self.labels = np.load(self.folder / "labels.npy")  # [n]
        self.losses: list[Any] = []
        self.times: list[float] = []

    def images(self) -> np.ndarray:
        """All images, normalised, [n, h, w, 3] of the task's type: float32, or float64 in the proof."""
        pixels = np.load(self.folder / "images.npy").astype(np.float32)
        scale, offset = 1 / (255 * np.array(self.std)), -np.array(self.mean) / np.array(self.std)
        return (pixels * np.float32(scale) + np.float32(offset)).astype(self.dtype)  # rounded as in this project

    def loader(self) -> Any:
        """A DataLoader over the images in memory."""
        import torch

        images = torch.from_numpy(np.ascontiguousarray(self.images().transpose(0, 3, 1, 2)))
        dataset = torch.utils.data.TensorDataset(images, torch.from_numpy(self.labels))
        return torch.utils.data.DataLoader(dataset, batch_size=self.batch_size, sampler=Order(self.order))

    def load(self, model: Any) -> Any:
        """Load the initial weights into a ResNet18 with torchvision's names; return the model, of the task's type."""
        import torch

        torch.set_num_threads(self.threads)
        torch.set_default_dtype(getattr(torch, self.dtype.name))
        model.to(torch.get_default_dtype())
        weights = np.load(self.folder / "weights.npz")
        model.load_state_dict({name: torch.tensor(weights[name]) for name in weights.files}, strict=True)
        return model

    def resnet18(self) -> Any:
        """torchvision's ResNet18 with the initial weights; only its head trains if the backbone is frozen."""
        from torchvision.models import resnet18

        model = self.load(resnet18(num_classes=self.classes))
        if self.frozen:
            model.requires_grad_(False)
            model.fc.requires_grad_(True)
        return model

    def step_done(self, loss: Any) -> None:
        """Note the end of a training step and its loss."""
        self.losses.append(loss)
        self.times.append(time.perf_counter())

    def write(self) -> None:
        """Write the times and losses; called when training is over."""
        end = time.perf_counter()
        steps = {"end_s": end, "step_ends_s": self.times, "losses": [float(loss) for loss in self.losses]}
        (self.folder / "steps.json").write_text(json.dumps(steps))
