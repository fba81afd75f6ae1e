"""The loop of PyTorch's transfer-learning tutorial: torchvision's transforms of image files in a DataLoader.

As in the tutorial, the model is in training mode also if its backbone is frozen, so batch-norm statistics move, and
every step counts its loss and correct answers. The DataLoader has no worker processes, because the process has the
cores of the task and no other. The loop does not evaluate.
"""

from __future__ import annotations

import torch
from task import Order, Task
from torch import nn, optim
from torchvision import datasets, models, transforms

task = Task()
data_transforms = transforms.Compose([transforms.ToTensor(), transforms.Normalize(task.mean, task.std)])
image_dataset = datasets.ImageFolder(f"{task.folder}/files", data_transforms)
dataloader = torch.utils.data.DataLoader(image_dataset, batch_size=task.batch_size, sampler=Order(task.order))

model = task.load(models.resnet18(num_classes=task.classes))
if task.frozen:
    for name, param in model.named_parameters():
        param.requires_grad = name.startswith("fc.")
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.fc.parameters() if task.frozen else model.parameters(), lr=task.lr, momentum=task.momentum)

for _epoch in range(task.epochs):
    model.train()
    running_loss, running_corrects = 0.0, 0
    for inputs, labels in dataloader:
        optimizer.zero_grad()
        outputs = model(inputs)
        _, preds = torch.max(outputs, 1)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * inputs.size(0)
        running_corrects += torch.sum(preds == labels.data)
        task.step_done(loss.item())
task.write()
