"""Lightning's `Trainer`, without logger, checkpoints, progress bar and model summary.

Everything else is its default.
"""

from __future__ import annotations

import warnings
from typing import Any

import lightning
import torch
from task import Task
from torch.nn import functional

task = Task()


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = task.resnet18()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return functional.cross_entropy(self.model(images), labels)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        task.step_done(outputs["loss"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trainable, lr=task.lr, momentum=task.momentum)


warnings.filterwarnings("ignore", ".*does not have many workers.*")
trainer = lightning.Trainer(
    max_epochs=task.epochs,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Classifier(), task.loader())
task.write()
