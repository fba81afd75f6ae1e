"""Heads of people's own in PyTorch files, and files in which a tool replaced tensors of the network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import pytorch
from harness.data.weight_files import noted
from harness.errors import Refused

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

RESNET = pytorch.MODELS["resnet18"]
NARROW = pytorch.MODELS["mobilenet-v2-0.35"]
LAYER = "layer1.0.conv1.weight"


def state(head: Any = None) -> OrderedDict[str, Any]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3)
    network.fc = head or network.fc
    return OrderedDict(network.state_dict())


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "head",
    [
        torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 3)),
        torch.nn.Sequential(torch.nn.Linear(512, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)),
        torch.nn.Sequential(OrderedDict(norm=torch.nn.BatchNorm1d(512), out=torch.nn.Linear(512, 3, bias=False))),
        torch.nn.Linear(512, 1000),
    ],
    ids=["dropout", "two layers with a norm", "named", "other classes"],
)
@pytest.mark.parametrize("prefix", ["", "_orig_mod.module."])
def test_a_head_in_the_classifiers_place_is_no_unexpected_tensor(tmp_path: Path, head: Any, prefix: str) -> None:
    content = state(head)
    path = saved(tmp_path / "w.pth", {prefix + name: tensor for name, tensor in content.items()})
    arrays, unmapped = pytorch.import_weights(path, RESNET)
    assert unmapped == ()
    for name, tensor in content.items():
        if not name.startswith("fc."):
            np.testing.assert_array_equal(arrays[name], tensor.numpy(), name)


def learner(kind: str) -> Any:
    """A network as fastai and people's own code put it together, around torchvision's layers."""
    nn, network = torch.nn, torchvision.models.resnet18(num_classes=3)
    network.load_state_dict(state())
    children = list(network.children())
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    norms = (nn.BatchNorm1d(512), nn.Linear(512, 16, bias=False), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    parts: dict[str, tuple[Any, ...]] = {
        # fastai's create_cnn_model
        "body and head": (nn.Sequential(*children[:-2]), nn.Sequential(*pooled, *norms)),
        "named body and head": (
            OrderedDict(body=nn.Sequential(*children[:-2]), head=nn.Sequential(*pooled, nn.Linear(512, 3))),
        ),
        "a head behind the children": (*children[:-2], *pooled, *norms),
        "a flattening between the children": (*children[:-1], nn.Flatten(), nn.Linear(512, 3)),
        "a network and a layer": (network, nn.Linear(3, 2)),
        "a first layer of its own": (nn.BatchNorm2d(3), *children[:-1]),
        "layer0": (
            OrderedDict(layer0=nn.Sequential(*children[:4]))
            | OrderedDict((f"layer{n - 3}", children[n]) for n in range(4, 8)),
        ),
        "stem and stages": (
            OrderedDict(stem=nn.Sequential(*children[:3]), stages=nn.Sequential(*children[4:8]), head=children[-1]),
        ),
    }
    return nn.Sequential(*parts[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "body and head",
        "named body and head",
        "a head behind the children",
        "a flattening between the children",
        "a network and a layer",
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_a_network_in_a_sequence_is_read_by_its_numbers_and_its_head_ignored(
    tmp_path: Path, kind: str, prefix: str
) -> None:
    tensors = {prefix + name: tensor for name, tensor in learner(kind).state_dict().items()}
    arrays, unmapped = pytorch.import_weights(saved(tmp_path / "w.pth", {"model": tensors, "opt": {}}), RESNET)
    assert unmapped == ()
    for name, tensor in state().items():
        if not name.startswith("fc."):
            np.testing.assert_array_equal(arrays[name], tensor.numpy(), name)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("a first layer of its own", "1.weight"),
        ("layer0", "layer0.0.weight"),
        ("stem and stages", "stem.0.weight"),
    ],
)
def test_the_model_under_other_names_is_named_with_one_of_them(tmp_path: Path, kind: str, other: str) -> None:
    with pytest.raises(Refused) as caught:
        pytorch.import_weights(saved(tmp_path / "w.pth", learner(kind).state_dict()), RESNET)
    assert f"holds tensors with the shapes of a resnet18 under other names, such as {other} for conv1" in str(
        caught.value
    )


@pytest.mark.parametrize("depth", [34, 50])
def test_another_network_under_other_names_is_not_called_this_one(tmp_path: Path, depth: int) -> None:
    content = torchvision.models.get_model(f"resnet{depth}", num_classes=3).state_dict()
    renamed = {f"net.{number}.{name.rpartition('.')[2]}": one for number, (name, one) in enumerate(content.items())}
    with pytest.raises(Refused, match=r"is not a resnet18: \d of its 100 tensors are in the file"):
        pytorch.import_weights(saved(tmp_path / "w.pth", renamed), RESNET)


def replaced(tool: str) -> dict[str, Any]:
    """A state dict in which a tool replaced one tensor, or all values."""
    whole = state()
    values = whole.pop(LAYER)
    layer = LAYER.removesuffix(".weight")
    parts: dict[str, dict[str, Any]] = {
        "peft": {f"{layer}.base_layer.weight": values, f"{layer}.lora_A.default.weight": torch.ones(4, 64, 3, 3)},
        "prune": {f"{layer}.weight_orig": values, f"{layer}.weight_mask": torch.ones(64, 64, 3, 3)},
        "weight_norm": {f"{layer}.weight_v": values, f"{layer}.weight_g": torch.ones(64, 1, 1, 1)},
        "spectral_norm": {f"{layer}.weight_orig": values, f"{layer}.weight_u": torch.ones(64)},
        "parametrize": {f"{layer}.parametrizations.weight.original": values},
    }
    if tool in parts:
        return {**whole, **parts[tool]}
    whole[LAYER] = values
    change = {
        "int8": lambda tensor: tensor.to(torch.int8),
        "meta": lambda tensor: torch.empty_like(tensor, device="meta"),
    }
    return {name: change[tool](tensor) for name, tensor in whole.items()}


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("peft", "holds LoRA adapters; merge them with merge_and_unload() of peft and save"),
        ("prune", "holds pruned weights beside their masks; call torch.nn.utils.prune.remove and save"),
        ("weight_norm", "holds weights in two parts, by weight_norm; call torch.nn.utils.remove_weight_norm"),
        ("spectral_norm", "holds weights beside their spectral norm; call torch.nn.utils.remove_spectral_norm"),
        ("parametrize", "holds parametrized weights; call torch.nn.utils.parametrize.remove_parametrizations"),
        ("int8", "0 of its 100 tensors fit (conv1.weight of torch.int8 instead of floating-point numbers"),
        ("meta", "0 of its 100 tensors fit (conv1.weight without values"),
    ],
)
def test_a_file_with_replaced_tensors_is_refused_with_the_tool_and_the_remedy(
    tmp_path: Path, tool: str, said: str
) -> None:
    path = saved(tmp_path / "w.pth", {"state_dict": replaced(tool)})
    with pytest.raises(Refused) as caught:
        pytorch.import_weights(path, RESNET)
    assert path in str(caught.value)
    assert said in str(caught.value)
    assert "save the" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_one_tensor_is_refused_because_it_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has no named tensors; save the network's state_dict"):
        pytorch.import_weights(saved(tmp_path / "w.pth", torch.ones(3)), RESNET)


UNSAID: dict[str, Callable[[Any], Any]] = {
    "Lightning": lambda state: {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
    "a sequence": lambda state: {name.replace("features.", "0.0.", 1): tensor for name, tensor in state.items()},
    "averaged": lambda state: {"ema": state},
    "half precision": lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
    "the backbone alone": lambda state: {n: t for n, t in state.items() if n.startswith("features.")},
}


@pytest.mark.parametrize("wrapping", UNSAID)
def test_a_mobilenet_whose_padding_is_unknown_is_noted_in_any_wrapping(tmp_path: Path, wrapping: str) -> None:
    content = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=5).state_dict()
    with noted() as notes:
        pytorch.import_weights(saved(tmp_path / "w.ckpt", UNSAID[wrapping](content)), NARROW)
    assert any(note.startswith("mobilenet-v2-0.35 pads as TensorFlow does") for note in notes)
