"""The models, one builder each. A builder imports its library when it is called and returns the parts of a network.

A plugin file adds a user's network in the same way:

    import torch, torchvision
    from backends.pytorch.models import resnet_parts
    from harness.contract import Model

    def build(image_size):
        network = torchvision.models.resnet34()
        network.layer2[0].conv1 = torch.nn.Conv2d(64, 128, 5, stride=2, padding=2, bias=False)
        return resnet_parts(network)

    MODELS = {"pytorch": [Model(name="my-resnet34", build=build, classifier="fc.", blocks=5)]}
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from backends.pytorch.weights.published import IMAGENET
from harness.contract import Model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a network. The backbone maps images [n, 3, h, w] to features [n, `features`].

    Every tensor of the backbone is in one of `blocks`, groups of modules in the order of computation; `frozen = k`
    freezes the first k. `pretrained_head` is between features and new head; it is loaded from the checkpoint and
    trained as part of the head. Tensor names within backbone and `pretrained_head` are the canonical ones.

    `steps` compute the same as the backbone, one after the other: a step for each block, then one for the rest. Without
    them, features can be kept only of the whole backbone.
    """

    backbone: nn.Module
    features: int
    blocks: tuple[tuple[nn.Module, ...], ...]
    pretrained_head: nn.Module | None = None
    steps: tuple[Callable[[Any], Any], ...] = ()


def resnet_parts(network: nn.Module) -> Parts:
    """Split a torchvision ResNet, original or changed; its blocks are the stem and `layer1` to `layer4`."""
    from torch import nn

    features = network.fc.in_features
    network.fc = nn.Identity()
    layers = (network.layer1, network.layer2, network.layer3, network.layer4)
    return Parts(
        backbone=network,
        features=features,
        blocks=((network.conv1, network.bn1), *((layer,) for layer in layers)),
        steps=(
            nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool),
            *layers,
            nn.Sequential(network.avgpool, nn.Flatten(1)),
        ),
    )


def alexnet_parts(network: nn.Module) -> Parts:
    """Split a torchvision AlexNet; its two wide classifier layers, with dropout, are the pretrained head."""
    from torch import nn

    pretrained = nn.Sequential(OrderedDict(classifier=network.classifier[:6]))
    network.classifier = nn.Identity()
    starts = [place for place, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)]
    ends = [*starts[1:], len(network.features)]
    return Parts(
        backbone=network,
        features=pretrained.classifier[4].out_features,
        blocks=tuple((network.features[start],) for start in starts),
        pretrained_head=pretrained,
        steps=(
            *(network.features[start:end] for start, end in zip(starts, ends, strict=True)),
            nn.Sequential(network.avgpool, nn.Flatten(1)),
        ),
    )


def efficientnet_parts(network: nn.Module) -> Parts:
    """Split an efficientnet_pytorch EfficientNet; the dropout before its classifier is removed with it."""
    from torch import nn

    features = network._fc.in_features
    network._fc, network._dropout = nn.Identity(), nn.Identity()
    stem, last = (network._conv_stem, network._bn0), (network._conv_head, network._bn1)
    return Parts(
        backbone=network,
        features=features,
        blocks=(stem, *((block,) for block in network._blocks), last),
        steps=(
            nn.Sequential(*stem, network._swish),
            *(partial(_efficientnet_block, network, number) for number in range(len(network._blocks))),
            nn.Sequential(*last, network._swish),
            nn.Sequential(network._avg_pooling, nn.Flatten(1)),
        ),
    )


def _efficientnet_block(network: Any, number: int, inputs: Any) -> Any:
    # As in EfficientNet.extract_features: the rate grows with the number of the block.
    rate = network._global_params.drop_connect_rate
    return network._blocks[number](inputs, drop_connect_rate=rate * number / len(network._blocks) if rate else rate)


def mobilenet_parts(network: nn.Module) -> Parts:
    """Split a torchvision MobileNetV2; its blocks are the entries of `features`."""
    from torch import nn

    network.classifier = nn.Identity()
    return Parts(
        backbone=network,
        features=network.last_channel,
        blocks=tuple((block,) for block in network.features),
        steps=(*network.features, nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1))),
    )


def _resnet(name: str, image_size: int) -> Parts:
    import torchvision

    return resnet_parts(torchvision.models.get_model(name))


def _alexnet(image_size: int) -> Parts:
    import torchvision

    return alexnet_parts(torchvision.models.alexnet())


def _efficientnet(name: str, image_size: int) -> Parts:
    # The padding of its convolutions is computed for one image size, when they are created.
    from efficientnet_pytorch import EfficientNet

    network = EfficientNet.from_name(name, image_size=image_size)
    # torch's own SiLU: the same function and the same memory, in fewer passes over the activations.
    network.set_swish(memory_efficient=False)
    return efficientnet_parts(network)


def _mobilenet(width: float, image_size: int) -> Parts:
    import torchvision

    network = torchvision.models.mobilenet_v2(width_mult=width)
    _pad_like_tensorflow(network, image_size)
    return mobilenet_parts(network)


def _pad_like_tensorflow(network: nn.Module, image_size: int) -> None:
    # Keras pads (0, 1) instead of torchvision's (1, 1), with an epsilon of 1e-3: equal shapes, other outputs (V06).
    from efficientnet_pytorch.utils import Conv2dStaticSamePadding
    from torch import nn

    size = image_size
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
        elif isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            padded = Conv2dStaticSamePadding(
                layer.in_channels, layer.out_channels, 3, stride=2, image_size=size, groups=layer.groups, bias=False
            )
            padded.weight = layer.weight
            owner, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(owner), attribute, padded)
            size = (size + 1) // 2


def _mobilenet_model(width: float, gmacs: float) -> Model:
    return Model(
        name="mobilenet-v2" if width == 1.0 else f"mobilenet-v2-{width:g}",
        build=partial(_mobilenet, width),
        classifier="classifier.1.",
        blocks=19,
        gmacs=gmacs,
        about=f"torchvision with the padding and epsilon (1e-3) of keras.applications; width {width:g}",
    )


def _resnet_model(name: str, gmacs: float) -> Model:
    return Model(name=name, build=partial(_resnet, name), classifier="fc.", blocks=5, gmacs=gmacs, about="torchvision")


def _efficientnet_model(name: str, blocks: int, gmacs: float) -> Model:
    return Model(
        name=name,
        build=partial(_efficientnet, name),
        classifier="_fc.",
        initialisation="torch-default",
        blocks=blocks,
        gmacs=gmacs,
        about="efficientnet_pytorch with torch's SiLU",
    )


MOBILENET_GMACS = {0.35: 0.059, 0.5: 0.097, 0.75: 0.209, 1.0: 0.3, 1.3: 0.509, 1.4: 0.582}
_ALL = (
    _resnet_model("resnet18", 1.82),
    _resnet_model("resnet34", 3.67),
    Model(
        name="alexnet",
        build=_alexnet,
        classifier="classifier.6.",
        initialisation="torch-default",
        blocks=5,
        minimum_size=63,
        gmacs=0.71,
        about="torchvision; freeze-conv freezes `features` and trains the whole classifier",
    ),
    _efficientnet_model("efficientnet-b0", 18, 0.39),
    _efficientnet_model("efficientnet-b3", 28, 0.96),
    *(_mobilenet_model(*facts) for facts in MOBILENET_GMACS.items()),
)

MODELS: dict[str, Model] = {
    model.name: replace(model, published={"imagenet": IMAGENET[model.name]} if model.name in IMAGENET else {})
    for model in _ALL
}
