"""Hugging Face's `Trainer`, without logging, checkpoints and progress bar.

Two defaults are changed, because they are another recipe: no clipping of gradients, and SGD at a constant rate.
"""

from __future__ import annotations

from typing import Any

import torch
from task import Order, Task
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, get_constant_schedule

task = Task()


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = task.resnet18()

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.model(pixel_values)
        self.loss = nn.functional.cross_entropy(logits, labels)
        return {"loss": self.loss, "logits": logits}


class Ordered(Trainer):
    def _get_train_sampler(self, *_: Any) -> Any:
        return Order(task.order)


class StepDone(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        task.step_done(model.loss.detach())


model = Classifier()
optimizer = torch.optim.SGD(
    [parameter for parameter in model.parameters() if parameter.requires_grad], lr=task.lr, momentum=task.momentum
)
arguments = TrainingArguments(
    output_dir=f"{task.folder}/transformers",
    num_train_epochs=task.epochs,
    per_device_train_batch_size=task.batch_size,
    max_grad_norm=0.0,
    use_cpu=True,
    save_strategy="no",
    logging_strategy="no",
    report_to="none",
    disable_tqdm=True,
)
dataset = [{"pixel_values": image, "labels": label} for image, label in task.loader().dataset]
trainer = Ordered(
    model,
    arguments,
    train_dataset=dataset,
    optimizers=(optimizer, get_constant_schedule(optimizer)),
    callbacks=[StepDone()],
)
trainer.train()
task.write()
