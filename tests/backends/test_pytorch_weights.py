"""State dicts in and out: what is read, what is refused, and that nothing in a file is run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import pytorch
from harness.data.checkpoint import NORMALISATIONS, Normalisation, read_checkpoint, write_checkpoint
from harness.errors import Refused

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

MODEL = pytorch.MODELS["mobilenet-v2-0.35"]


def state(classes: int = 7) -> OrderedDict[str, Any]:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=classes)
    return OrderedDict(network.state_dict())


@pytest.mark.parametrize("ending", pytorch.FORMATS)
def test_import_and_export_give_back_identical_arrays(tmp_path: Path, ending: str) -> None:
    original = state()
    path = str(tmp_path / f"weights{ending}")
    pytorch.export_weights({n: t.numpy() for n, t in original.items()}, MODEL, path)
    arrays, unmapped = pytorch.import_weights(path, MODEL)
    assert unmapped == () and set(arrays) == set(original)
    assert all(np.array_equal(arrays[n], t.numpy()) for n, t in original.items())


def test_a_neutral_checkpoint_keeps_every_shape(tmp_path: Path) -> None:
    arrays = {n: t.numpy() for n, t in state().items()}
    write_checkpoint(
        tmp_path / "n.safetensors",
        arrays,
        model=MODEL.name,
        normalisation=NORMALISATIONS["imagenet"],
        origin="made here",
    )
    found = read_checkpoint(tmp_path / "n.safetensors").arrays
    assert {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in arrays.items()}


def test_an_exported_file_loads_with_the_librarys_own_loader(tmp_path: Path) -> None:
    arrays = {n: t.numpy() for n, t in state().items() if not n.startswith("classifier.")}
    arrays |= {"head.weight": np.ones((2, 1280), np.float32), "head.bias": np.zeros(2, np.float32)}
    pytorch.export_weights(arrays, MODEL, str(tmp_path / "tuned.pth"))
    network = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=2)
    loaded = torch.load(tmp_path / "tuned.pth", weights_only=True)
    assert list(loaded) == list(network.state_dict())
    network.load_state_dict(loaded)
    assert float(network.classifier[1].weight.detach().sum()) == 2 * 1280


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_wrappings_and_prefixes_come_off(tmp_path: Path, key: str) -> None:
    wrapped = {key: {f"module.{n}": t for n, t in state().items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "w.pth")
    arrays, unmapped = pytorch.import_weights(str(tmp_path / "w.pth"), MODEL)
    assert set(arrays) == set(state()) and unmapped == ()


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save({n: t.bfloat16() if t.is_floating_point() else t for n, t in state().items()}, tmp_path / "w.pth")
    arrays, _ = pytorch.import_weights(str(tmp_path / "w.pth"), MODEL)
    assert arrays["features.0.0.weight"].dtype == np.float32


def test_what_the_model_has_no_place_for_is_named(tmp_path: Path) -> None:
    torch.save(state() | {"ema.decay": torch.ones(1)}, tmp_path / "w.pth")
    arrays, unmapped = pytorch.import_weights(str(tmp_path / "w.pth"), MODEL)
    assert unmapped == ("ema.decay",) and "ema.decay" not in arrays


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "w.pth"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Exploit(marker)))
    else:
        torch.save({"x": Exploit(marker)}, path)
    with pytest.raises(Refused, match="could run code"):
        pytorch.import_weights(str(path), MODEL)
    assert not marker.exists()


def test_a_whole_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(Refused, match=r"save the network's state_dict\(\)"):
        pytorch.import_weights(str(tmp_path / "w.pth"), MODEL)


def _damaged(folder: Path, kind: str) -> Path:
    path = folder / ("w.safetensors" if kind.startswith("safetensors") else "w.pth")
    if kind in ("truncated", "safetensors-truncated"):
        pytorch.export_weights({n: t.numpy() for n, t in state().items()}, MODEL, str(path))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "list":
        torch.save([torch.ones(2)], path)
    elif kind == "numbers":
        torch.save({"epoch": 3}, path)
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"GIF89a not weights at all, just text " * 20)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("truncated", "is damaged or not"),
        ("text", "not a PyTorch state dict"),
        ("safetensors-truncated", "not a readable safetensors"),
        ("safetensors-text", "not a readable safetensors"),
        ("list", "no named tensors"),
        ("numbers", "no named tensors"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, kind: str, message: str) -> None:
    path = _damaged(tmp_path, kind)
    with pytest.raises(Refused, match=message) as caught:
        pytorch.import_weights(str(path), MODEL)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_tensor(tmp_path: Path, value: float) -> None:
    broken = state()
    broken["features.3.conv.1.0.weight"][0] = value
    torch.save(broken, tmp_path / "w.pth")
    with pytest.raises(Refused, match=r"features\.3\.conv\.1\.0\.weight has values that are not finite"):
        pytorch.import_weights(str(tmp_path / "w.pth"), MODEL)


@pytest.mark.parametrize("other", ["resnet18", "mobilenet-v2", "alexnet"])
def test_another_models_file_is_refused(tmp_path: Path, other: str) -> None:
    torch.save(state(), tmp_path / "w.pth")
    with pytest.raises(Refused, match=f"is not a {other}"):
        pytorch.import_weights(str(tmp_path / "w.pth"), pytorch.MODELS[other])


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "alexnet"])
def test_the_published_weights_are_those_that_torchvision_names(name: str) -> None:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    published, preset = pytorch.MODELS[name].published["imagenet"], weights.transforms()
    assert published.url == weights.url
    assert published.url.endswith(f"-{published.sha256}.pth")
    assert published.classes == tuple(weights.meta["categories"])
    assert published.normalisation == Normalisation(mean=tuple(preset.mean), std=tuple(preset.std))


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b3"])
def test_the_published_weights_are_those_that_efficientnet_pytorch_names(name: str) -> None:
    from efficientnet_pytorch.utils import url_map

    published = pytorch.MODELS[name].published["imagenet"]
    assert published.url == url_map[name]
    assert published.url.endswith(f"-{published.sha256}.pth")


def test_torchvision_publishes_no_weights_of_the_mobilenet_that_is_exact_to_keras() -> None:
    assert not [name for name, model in pytorch.MODELS.items() if "mobilenet" in name and model.published]
