"""The script of PyTorch's transfer-learning tutorial, with its data, checkpoint and recipe as arguments.

Source: https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html. Like there, a DataLoader of four workers
applies torchvision's transforms to Pillow images, frozen batch norms stay in training mode, and every epoch evaluates
the validation images and saves the best weights. The batch has 16 images instead of 4. `first-stage` trains the head
as the first stage of the scenario `two-stage` does: batches of 64 and Adam.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torchvision import datasets, models, transforms


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("data")
    arguments.add_argument("--checkpoint", required=True)
    arguments.add_argument("--method", choices=("frozen", "first-stage", "full"), default="frozen")
    arguments.add_argument("--augment", choices=("flip", "crop"), default="crop")
    arguments.add_argument("--epochs", type=int, default=25)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    torch.manual_seed(given.seed)
    first_stage = given.method == "first-stage"
    batch_size = 64 if first_stage else 16

    crop = (
        [transforms.RandomResizedCrop(224)]
        if given.augment == "crop"
        else [transforms.Resize(256), transforms.CenterCrop(224)]
    )
    normalise = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    data_transforms = {
        "train": transforms.Compose([*crop, transforms.RandomHorizontalFlip(), *normalise]),
        "val": transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *normalise]),
    }
    image_datasets = {x: datasets.ImageFolder(f"{given.data}/{x}", data_transforms[x]) for x in ["train", "val"]}
    dataloaders = {
        x: torch.utils.data.DataLoader(image_datasets[x], batch_size=batch_size, shuffle=True, num_workers=4)
        for x in ["train", "val"]
    }
    dataset_sizes = {x: len(image_datasets[x]) for x in ["train", "val"]}

    model = models.resnet18()
    weights = torch.load(given.checkpoint, weights_only=True, map_location="cpu")
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}, strict=False)
    if given.method != "full":
        for param in model.parameters():
            param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(image_datasets["train"].classes))
    criterion = nn.CrossEntropyLoss()
    trained = model.parameters() if given.method == "full" else model.fc.parameters()
    optimizer = optim.Adam(trained, lr=0.001) if first_stage else optim.SGD(trained, lr=0.001, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=1 if first_stage else 0.1)

    since = time.time()
    with tempfile.TemporaryDirectory() as tempdir:
        best_model_params_path = f"{tempdir}/best_model_params.pt"
        torch.save(model.state_dict(), best_model_params_path)
        best_acc = 0.0
        for epoch in range(given.epochs):
            print(f"Epoch {epoch}/{given.epochs - 1}")
            for phase in ["train", "val"]:
                if phase == "train":
                    model.train()
                else:
                    model.eval()
                running_loss, running_corrects = 0.0, 0
                for inputs, labels in dataloaders[phase]:
                    optimizer.zero_grad()
                    with torch.set_grad_enabled(phase == "train"):
                        outputs = model(inputs)
                        _, preds = torch.max(outputs, 1)
                        loss = criterion(outputs, labels)
                        if phase == "train":
                            loss.backward()
                            optimizer.step()
                    running_loss += loss.item() * inputs.size(0)
                    running_corrects += torch.sum(preds == labels.data)
                if phase == "train":
                    scheduler.step()
                epoch_loss = running_loss / dataset_sizes[phase]
                epoch_acc = running_corrects.double() / dataset_sizes[phase]
                print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
                if phase == "val" and epoch_acc > best_acc:
                    best_acc = epoch_acc
                    torch.save(model.state_dict(), best_model_params_path)
        model.load_state_dict(torch.load(best_model_params_path, weights_only=True))
    print(f"Training complete in {time.time() - since:.0f} s, last accuracy {epoch_acc:.4f}")


if __name__ == "__main__":
    main()
