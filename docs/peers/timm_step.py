"""timm's training step, as in its `train.py`: its model, its optimizer factory, its freezing, its loss meter.

Turned off or left at the value without effect: automatic mixed precision, EMA, label smoothing, mixup, clipping,
logging, checkpoints. `momentum` is timm's name for SGD without Nesterov. `timm.utils.freeze` fixes batch-norm
statistics too.
"""

from __future__ import annotations

import timm
import torch
from task import Task
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, freeze

task = Task()
loader = task.loader()
model = task.load(timm.create_model("resnet18", pretrained=False, num_classes=task.classes))
if task.frozen:
    freeze(model, [name for name, _ in model.named_children() if name != "fc"])
optimizer = create_optimizer_v2(model, opt="momentum", lr=task.lr, momentum=task.momentum, weight_decay=0.0)
train_loss_fn = torch.nn.CrossEntropyLoss()

for _epoch in range(task.epochs):
    model.train()
    losses_m = AverageMeter()
    optimizer.zero_grad()
    for input, target in loader:
        output = model(input)
        loss = train_loss_fn(output, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses_m.update(loss.item(), input.size(0))
        task.step_done(loss.detach())
task.write()
