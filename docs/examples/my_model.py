"""A ResNet34 whose second layer begins with a wider convolution; the rest of a checkpoint is loaded."""

import torch
import torchvision

from finetune_bench import Model
from finetune_bench.torch_models import Parts, resnet_parts


def build(image_size: int) -> Parts:
    network = torchvision.models.resnet34()
    network.layer2[0].conv1 = torch.nn.Conv2d(64, 128, kernel_size=5, stride=2, padding=2, bias=False)
    return resnet_parts(network)


MODELS = {"pytorch": [Model(name="my-resnet34", build=build, classifier="fc.", blocks=5, gmacs=3.7)]}
