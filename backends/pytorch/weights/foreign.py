"""Networks of other libraries, recognised by the names of their tensors, and what to do with their files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Foreign(NamedTuple):
    """A network of a library, a pattern for one of its tensor names, and a remedy."""

    title: str
    pattern: str
    remedy: str


_RENAME = "save it under torchvision's names, or use torchvision's file"
_PADDED = "{model} pads as TensorFlow does: use Keras' file of MobileNetV2"
_EFFICIENTNET = "use efficientnet_pytorch's file of the network"

_NETWORKS = (
    Foreign("ResNet of transformers", r"embedder\.embedder\.convolution\.weight$", _RENAME),
    Foreign("MobileNetV2 of transformers", r"conv_stem\.first_conv\.convolution\.weight$", _PADDED),
    Foreign("EfficientNet of transformers", r"embeddings\.convolution\.weight$", _EFFICIENTNET),
    Foreign("EfficientNet of timm", r"blocks\.\d+\.\d+\.se\.conv_reduce\.weight$", _EFFICIENTNET),
    Foreign("MobileNetV2 of timm", r"blocks\.\d+\.\d+\.conv_pwl?\.weight$", _PADDED),
    Foreign(
        "EfficientNet of torchvision",
        r"features\.1\.0\.block\.0\.0\.weight$",
        f"its padding and batch-norm epsilon give other features: {_EFFICIENTNET}",
    ),
    Foreign("MobileNetV3 of torchvision", r"features\.1\.block\.0\.0\.weight$", "name its --model"),
    Foreign("MobileNetV2 of torchvision", r"features\.1\.conv\.0\.0\.weight$", "name its --model"),
    Foreign("EfficientNet of efficientnet_pytorch", r"_blocks\.0\._depthwise_conv\.weight$", "name its --model"),
    Foreign("ResNet of detectron2", r"(^|\.)res2\.0\.conv1\.weight$", _RENAME),
    Foreign("MobileNetV2 of mmpretrain", r"layer1\.0\.conv\.0\.conv\.weight$", _PADDED),
    Foreign(
        "vision transformer",
        r"\.(attn\.qkv|attn\.in_proj|self_attention\.in_proj_|attention\.query\.)",
        "this benchmark has no vision transformer",
    ),
)


_REPLACED = (
    (r"(^|\.)lora_[AB](\.|$)", "holds LoRA adapters; merge them with merge_and_unload() of peft"),
    (r"\.weight_mask$", "holds pruned weights beside their masks; call torch.nn.utils.prune.remove"),
    (r"\.weight_[gv]$", "holds weights in two parts, by weight_norm; call torch.nn.utils.remove_weight_norm"),
    (r"\.weight_u$", "holds weights beside their spectral norm; call torch.nn.utils.remove_spectral_norm"),
    (
        r"\.parametrizations\.\w+\.original\d*$",
        "holds parametrized weights; call torch.nn.utils.parametrize.remove_parametrizations",
    ),
)


def replaced_tensors(names: Iterable[str]) -> str:
    """Return by what a file replaces tensors of a network, and a remedy; empty if no known tool did so."""
    names = list(names)
    found = (reason for pattern, reason in _REPLACED if any(re.search(pattern, name) for name in names))
    return next((f"{reason} and save the state_dict() again" for reason in found), "")


def recognised(names: Iterable[str], model: str, own: Iterable[str]) -> str:
    """Return what a file with these names holds and a remedy; empty if no known library matches.

    A pattern that also matches one of the model's `own` names is ignored.
    """
    names, own = list(names), list(own)
    for network in _NETWORKS:
        if any(re.search(network.pattern, n) for n in names) and not any(re.search(network.pattern, n) for n in own):
            return f"it holds a {network.title}; {network.remedy.format(model=model)}"
    return ""
