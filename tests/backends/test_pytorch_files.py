"""Files as training programs write them: the right tensors whole, or one line that says what the file is."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import subprocess
import sys
import tempfile
import types
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from backends import pytorch
from backends.pytorch.models import Parts
from harness.contract import Model
from harness.data.weight_files import noted
from harness.errors import Refused

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

from tests.backends.old_torch_files import Global, Reduced, write_python_2, write_tar  # noqa: E402 - needs torch

NARROW = pytorch.MODELS["mobilenet-v2-0.35"]
RESNET = pytorch.MODELS["resnet18"]


@cache
def narrow(seed: int = 0) -> OrderedDict[str, Any]:
    torch.manual_seed(seed)
    return OrderedDict(torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=5).state_dict())


@cache
def resnet(depth: int = 18) -> OrderedDict[str, Any]:
    torch.manual_seed(depth)
    return OrderedDict(torchvision.models.get_model(f"resnet{depth}", num_classes=3).state_dict())


def under(prefix: str, state: Any) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(path: Path, content: object, **how: Any) -> str:
    torch.save(content, path, **how)
    return str(path)


def assert_whole(path: str, model: Model = NARROW, state: Any = None, unmapped: tuple[str, ...] = ()) -> list[str]:
    """The file gives a model's tensors, value for value; returns what was noted beside the padding."""
    with noted() as notes:
        arrays, left = pytorch.import_weights(path, model)
    wanted = narrow() if state is None else state
    assert left == unmapped
    assert set(arrays) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), name)
    return [sentence for sentence in notes if "pads as TensorFlow" not in sentence]


def refusal(path: str, model: Model = NARROW) -> str:
    with pytest.raises(Refused) as caught:
        pytorch.import_weights(path, model)
    message = str(caught.value)
    assert path in message
    assert "\n" not in message
    return message


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "bare": dict,
    "an unknown key": lambda state: {"my weights": state, "epoch": 3},
    "two keys": lambda state: {"checkpoint": {"network": state}, "step": 1},
    "a pair": lambda state: (state, {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]}),
    "beside an optimizer": lambda state: {
        "net": state,
        "optimizer": torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.1, momentum=0.9).state_dict(),
    },
    "beside its parts": lambda state: {"trainer": [{"weights": state, "log": ["epoch 1"]}, None], 7: torch.ones(3)},
}
PREFIXES = (
    "",
    "module.",
    "_orig_mod.module.",
    "model.",
    "backbone.",
    "student.encoder.",
    "_fsdp_wrapped_module.net.0.",
)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("prefix", ["", "_orig_mod.module.", "learner.body."])
def test_any_nesting_and_prefix_come_off(tmp_path: Path, wrapping: str, prefix: str) -> None:
    assert_whole(saved(tmp_path / "w.pth", WRAPPINGS[wrapping](under(prefix, narrow()))))


def test_what_lies_beside_the_network_is_none_of_its_own(tmp_path: Path) -> None:
    lightning = under("model.", narrow()) | {"criterion.weight": torch.ones(5), "metric.total": torch.ones(1)}
    assert_whole(saved(tmp_path / "last.ckpt", {"state_dict": lightning, "callbacks": {}, "loops": {"a": [1, "b"]}}))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_a_wrapper_around_some_layers_comes_off_too(tmp_path: Path, wrapper: str) -> None:
    wrapped = {name.replace("features.3.", f"features.3.{wrapper}.", 1): tensor for name, tensor in narrow().items()}
    assert_whole(saved(tmp_path / "w.pth", wrapped))


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("model", "model_ema"),
        ("state_dict", "ema_state_dict"),
        ("net", "ema"),
        ("student", "teacher"),
        ("a", "swaModel"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_of_plain_and_averaged_weights_the_plain_are_taken_and_it_is_said(
    tmp_path: Path, plain: str, averaged: str, order: int
) -> None:
    both = dict([(plain, narrow()), (averaged, under("module.", narrow(1)))][::order])
    (note,) = assert_whole(saved(tmp_path / "w.pth", both))
    assert f"the weights in '{plain}' were loaded, not those in '{averaged}.module'" in note


def test_averaged_weights_are_taken_where_there_are_no_others_and_it_is_said(tmp_path: Path) -> None:
    average = torch.optim.swa_utils.AveragedModel(torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=5))
    average.module.load_state_dict(narrow())
    (note,) = assert_whole(saved(tmp_path / "w.pth", average.state_dict()))
    assert note == "the averaged weights in 'module' were loaded; the file has no others"


def test_one_network_under_two_keys_is_one(tmp_path: Path) -> None:
    twice = {"model": narrow(), "best": {name: tensor.clone() for name, tensor in narrow().items()}}
    assert assert_whole(saved(tmp_path / "w.safetensors.pth", twice)) == assert_whole(saved(tmp_path / "x", narrow()))


@pytest.mark.parametrize("keys", [("generator", "critic"), ("net_a", "net_b"), ("first", "second")])
def test_two_networks_of_which_none_is_plain_are_refused_with_both_places(
    tmp_path: Path, keys: tuple[str, str]
) -> None:
    message = refusal(saved(tmp_path / "w.pth", {keys[0]: narrow(), keys[1]: narrow(1)}))
    assert f"holds 2 whole networks, '{keys[0]}' and '{keys[1]}'" in message


@pytest.mark.parametrize("name", ["model.pth.tar", "last.CKPT", "weights", "best.PTH", "net.pkl", "x.tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str, zipped: bool) -> None:
    assert_whole(saved(tmp_path / name, narrow(), _use_new_zipfile_serialization=zipped))


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    save_file(under("backbone.", narrow()), tmp_path / "pytorch_model.bin")
    assert_whole(str(tmp_path / "pytorch_model.bin"))


HARMLESS: dict[str, Any] = {
    "a NumPy scalar": np.float64(48.3),
    "a NumPy integer": np.int64(3),
    "a NumPy array": np.arange(3.0),
    "a NumPy type": np.dtype("float32"),
    "random states": (np.random.RandomState(0).get_state(), torch.get_rng_state()),
    "a namespace": argparse.Namespace(lr=0.1, data="somewhere", betas=(0.9, 0.99)),
    "a simple namespace": types.SimpleNamespace(a=1),
    "a path": pathlib.Path("/data/images"),
    "a time": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    "a duration": datetime.timedelta(hours=3),
    "a default dictionary": collections.defaultdict(list, loss=[0.1, 0.2]),
    "a counter": collections.Counter("abc"),
    "a queue": collections.deque([1, 2], maxlen=3),
    "a set": {1, 2},
    "a frozen set": frozenset({"a"}),
    "bytes": b"abc",
    "a complex number": 1 + 2j,
    "nothing": None,
    "a version": torch.__version__,
    "a device": torch.device("cpu"),
    "an empty tensor": torch.empty(0),
    "an infinite tensor": torch.tensor(float("inf")),
    "text": "a" * 300,
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_people_keep_beside_the_weights_does_no_harm(tmp_path: Path, kind: str) -> None:
    assert_whole(saved(tmp_path / "w.pth", {"model": narrow(), "beside": HARMLESS[kind], "list": [HARMLESS[kind]]}))


class Settings:
    lr = 0.1


@pytest.mark.parametrize("beside", [Settings(), np.random.default_rng(0), print])
def test_other_objects_are_refused_with_their_type_and_the_remedy(tmp_path: Path, beside: object) -> None:
    message = refusal(saved(tmp_path / "w.pth", {"model": narrow(), "beside": beside}))
    kind = beside if callable(beside) else type(beside)
    assert kind.__name__ in message or "numpy.random" in message
    assert "could run code when loaded; save the network's state_dict() instead" in message


def test_a_pickle_of_arrays_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({n: t.numpy() for n, t in narrow().items()}))
    assert "save the network's state_dict() with torch.save" in refusal(str(tmp_path / "w.pkl"))


TYPES: dict[str, Callable[[Any], Any]] = {
    "float32": lambda t: t,
    "float16": lambda t: t.half() if t.is_floating_point() else t,
    "bfloat16": lambda t: t.bfloat16() if t.is_floating_point() else t,
    "float64": lambda t: t.double() if t.is_floating_point() else t,
    "parameter": lambda t: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
    "numpy": lambda t: t.numpy(),
}
FOREIGN_TYPES: dict[str, Callable[[Any], Any]] = {
    "int8": lambda t: t.to(torch.int8),
    "complex": lambda t: t.to(torch.complex64),
    "meta": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("kind", FOREIGN_TYPES)
def test_tensors_that_hold_no_real_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    message = refusal(saved(tmp_path / "w.pth", {n: FOREIGN_TYPES[kind](t) for n, t in narrow().items()}))
    assert "is not a mobilenet-v2-0.35" in message
    state = dict(narrow()) | {"features.2.conv.0.0.weight": FOREIGN_TYPES[kind](narrow()["features.2.conv.0.0.weight"])}
    assert "1 of its 260 tensors do not fit (features.2.conv.0.0.weight" in refusal(saved(tmp_path / "v.pth", state))


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    wrapping=st.sampled_from(sorted(WRAPPINGS)),
    prefix=st.sampled_from(PREFIXES),
    kind=st.sampled_from(sorted({**TYPES, **FOREIGN_TYPES})),
    extras=st.dictionaries(
        st.sampled_from(["args", "ema", "features", "module", "a.b"]), st.sampled_from(sorted(HARMLESS))
    ),
    lost=st.integers(0, 2),
    zipped=st.booleans(),
)
def test_a_file_gives_the_right_tensors_or_one_line(
    wrapping: str, prefix: str, kind: str, extras: dict[str, str], lost: int, zipped: bool
) -> None:
    names = [name for name in narrow() if not name.startswith("classifier") and "num_batches" not in name][lost * 7 :]
    names = [name for name in narrow() if lost == 0 or name in names]
    state = under(prefix, {name: {**TYPES, **FOREIGN_TYPES}[kind](narrow()[name]) for name in names})
    content = {"wrapped": WRAPPINGS[wrapping](state)} | {key: HARMLESS[value] for key, value in extras.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder) / "w", content, _use_new_zipfile_serialization=zipped)
        if lost or kind in FOREIGN_TYPES:
            refusal(path)
            return
        arrays, _ = pytorch.import_weights(path, NARROW)
    exact = "float32" if kind in ("numpy", "parameter") else kind
    for name, tensor in narrow().items():
        wanted = TYPES[exact](tensor)
        wanted = wanted.float() if kind in ("float16", "bfloat16") and tensor.is_floating_point() else wanted
        np.testing.assert_array_equal(arrays[name], wanted.numpy())


@pytest.mark.parametrize("gone", ["features.0.", "features.18.", "features.7.conv.1.1.running_var"])
def test_a_part_of_a_network_is_refused_with_what_is_missing(tmp_path: Path, gone: str) -> None:
    part = {name: tensor for name, tensor in narrow().items() if not name.startswith(gone)}
    count = len([n for n in narrow() if n.startswith(gone) and "num_batches" not in n])
    message = refusal(saved(tmp_path / "w.pth", part))
    first = next(name for name in narrow() if name.startswith(gone))
    assert f"holds only a part of mobilenet-v2-0.35: {count} of its 260 tensors are missing ({first}" in message


def test_a_plugins_own_network_takes_what_fits(tmp_path: Path) -> None:
    mine = Model(name="mine", build=NARROW.build, classifier="classifier.1.", blocks=19)
    part = {name: tensor for name, tensor in narrow().items() if not name.startswith("features.0.")}
    assert_whole(saved(tmp_path / "w.pth", part), mine, part)


def test_a_plugins_network_may_hold_parameters_of_its_own(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = torch.nn.Parameter(torch.full((1,), 3.0)), torch.nn.Conv2d(3, 4, 3)

    def build(image_size: int) -> Parts:
        network = Scaled()
        return Parts(backbone=network, features=4, blocks=((network,),))

    mine = Model(name="mine", build=build, classifier="fc.", blocks=1)
    state = Scaled().state_dict()
    assert_whole(saved(tmp_path / "w.pth", {"net": under("module.", state)}), mine, state)


def test_a_larger_network_of_the_same_names_is_refused(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "w.pth", resnet(34)), RESNET)
    assert "is not a resnet18: its layers hold 96 more tensors (layer1.2.conv1.weight" in message


def test_a_layer_with_a_bias_that_the_model_has_not_is_another_network(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "w.pth", resnet() | {"conv1.bias": torch.zeros(64)}), RESNET)
    assert "1 more tensors (conv1.bias)" in message


def test_files_from_before_batch_counters_are_whole(tmp_path: Path) -> None:
    without = OrderedDict((n, t) for n, t in narrow().items() if not n.endswith("num_batches_tracked"))
    assert_whole(saved(tmp_path / "w.pth", without), state=without)


@pytest.mark.parametrize("prefix", ["", "features.", "model.0."])
def test_a_network_that_was_put_in_sequence_is_found_by_its_numbers(tmp_path: Path, prefix: str) -> None:
    network = torchvision.models.resnet18(num_classes=3)
    network.load_state_dict(resnet())
    # As fastai's create_body cuts it.
    body = torch.nn.Sequential(*list(network.children())[:-2])
    head = {"model.1.8.weight": torch.ones(2, 3), "model.1.2.running_mean": torch.ones(1024)}
    content = {
        "model": under(prefix, body.state_dict()) | (head if prefix == "model.0." else {}),
        "opt": {"hypers": []},
    }
    wanted = {name: tensor for name, tensor in resnet().items() if not name.startswith("fc.")}
    assert_whole(saved(tmp_path / "w.pth", content), RESNET, wanted)


@pytest.mark.parametrize("beside", [{}, {"arch": "resnet18", "best": 48.25}])
def test_files_of_python_2_are_read(tmp_path: Path, beside: dict[str, Any]) -> None:
    path = tmp_path / "resnet18-5c106cde.pth"
    without = OrderedDict((n, t) for n, t in narrow().items() if not n.endswith("num_batches_tracked"))
    write_python_2(without, path, **beside)
    loaded = torch.load(path, map_location="cpu", weights_only=False)
    assert torch.equal(
        (loaded["state_dict"] if beside else loaded)["features.0.0.weight"], narrow()["features.0.0.weight"]
    )
    assert_whole(str(path), state=without)


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")  # torch's own extraction, from Python 3.12 on
def test_the_first_format_a_tar_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    write_tar(narrow(), path)
    theirs = torch.load(path, weights_only=False)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in narrow().items())
    assert_whole(str(path))


def test_code_in_a_tar_archive_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = Reduced(Global("os", "mkdir"), str(tmp_path / "it-ran"))
    write_tar(narrow(), tmp_path / "old.pth", trap)
    assert "holds os.mkdir, a Python object that could run code" in refusal(str(tmp_path / "old.pth"))
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_tar_archive_that_is_cut_short_is_damaged(tmp_path: Path, share: float) -> None:
    write_tar(narrow(), tmp_path / "old.pth")
    whole = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old.pth").write_bytes(whole[: int(share * len(whole))])
    assert "damaged" in refusal(str(tmp_path / "old.pth"))


FOREIGN: dict[str, tuple[list[str], Model, str]] = {
    "transformers-resnet": (["resnet.embedder.embedder.convolution.weight"], RESNET, "ResNet of transformers"),
    "transformers-mobilenet": (
        ["mobilenet_v2.conv_stem.first_conv.convolution.weight"],
        NARROW,
        "MobileNetV2 of transformers; mobilenet-v2-0.35 pads as TensorFlow does",
    ),
    "timm-mobilenet": (["conv_stem.weight", "blocks.0.0.conv_pw.weight"], NARROW, "MobileNetV2 of timm"),
    "timm-efficientnet": (
        ["conv_stem.weight", "blocks.0.0.se.conv_reduce.weight"],
        pytorch.MODELS["efficientnet-b0"],
        "EfficientNet of timm; use efficientnet_pytorch's file",
    ),
    "detectron2": (["backbone.bottom_up.res2.0.conv1.weight"], RESNET, "ResNet of detectron2"),
    "vit": (["blocks.0.attn.qkv.weight"], RESNET, "vision transformer"),
}


@pytest.mark.parametrize("library", FOREIGN)
def test_networks_of_other_libraries_are_named_for_what_they_are(tmp_path: Path, library: str) -> None:
    names, model, said = FOREIGN[library]
    message = refusal(saved(tmp_path / "w.pth", {name: torch.ones(2, 2) for name in names}), model)
    assert f"is not a {model.name}: it holds a {said}" in message


def test_torchvisions_efficientnet_is_refused_for_its_padding(tmp_path: Path) -> None:
    state = torchvision.models.efficientnet_b0(num_classes=2).state_dict()
    message = refusal(saved(tmp_path / "w.pth", state), pytorch.MODELS["efficientnet-b0"])
    assert "it holds a EfficientNet of torchvision; its padding and batch-norm epsilon give other features" in message


def test_torchvisions_efficientnet_gives_other_features_from_the_same_tensors_by_its_padding_and_epsilon() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.efficientnet_b0(num_classes=2).features.double().eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.01, 0.1)
    ours = pytorch.MODELS["efficientnet-b0"].build(96).backbone.double().eval()
    # Both libraries list the same tensors in the same order, under other names.
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: tensor for (name, _), tensor in pairs})
    images = torch.randn(4, 3, 96, 96, dtype=torch.float64)

    def difference() -> float:
        with torch.no_grad():
            mine, other = ours(images), theirs(images).mean((2, 3))
        return float((mine - other).norm() / mine.norm())

    as_published = difference()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    with_our_epsilon = difference()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            _pad_as_tensorflow(module)
    assert as_published > 0.1
    assert with_our_epsilon > 0.1
    assert difference() < 1e-9


def _pad_as_tensorflow(convolution: Any) -> None:
    """Pad an even side by k - 2 pixels in all, the larger part after it, instead of (k - 1) / 2 on both sides."""
    total = convolution.kernel_size[0] - 2
    sides = (total // 2, total - total // 2) * 2
    convolution.padding = (0, 0)
    convolution.register_forward_pre_hook(lambda _, inputs: (torch.nn.functional.pad(inputs[0], sides),))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_mobilenet_that_says_nothing_of_its_padding_is_noted(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"w{ending}")
    (save_file if ending == ".safetensors" else torch.save)(narrow(), path)
    with noted() as notes:
        pytorch.import_weights(path, NARROW)
    (sentence,) = notes
    assert sentence.startswith(
        "mobilenet-v2-0.35 pads as TensorFlow does, with epsilon 1e-3; weights of torchvision's MobileNetV2"
    )


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_mobilenet_of_this_projects_own_needs_no_note(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"w{ending}")
    pytorch.export_weights({n: t.numpy() for n, t in narrow().items()}, NARROW, path)
    with noted() as notes:
        pytorch.import_weights(path, NARROW)
    assert notes == []


def test_torchvisions_published_mobilenet_is_refused_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    wide = torchvision.models.mobilenet_v2(num_classes=2).state_dict()
    path = saved(tmp_path / "renamed.pth", wide)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    entry = torchvision.models.get_model_weights("mobilenet_v2").DEFAULT
    address = f"https://nowhere.invalid/mobilenet_v2-{digest}.pth"
    monkeypatch.setattr(type(entry), "url", property(lambda self: address))
    assert "is torchvision's MobileNetV2, trained with another padding" in refusal(path, pytorch.MODELS["mobilenet-v2"])


@pytest.mark.parametrize("byte", range(0, 400, 23))
def test_a_damaged_byte_gives_the_right_tensors_or_one_line(tmp_path: Path, byte: int) -> None:
    write_python_2(narrow(), tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[byte] ^= 0x15
    (tmp_path / "w.pth").write_bytes(content)
    try:
        arrays, _ = pytorch.import_weights(str(tmp_path / "w.pth"), NARROW)
    except Refused as error:
        assert "\n" not in str(error)
    else:
        assert arrays["features.0.0.weight"].shape == (16, 3, 3, 3)


def test_the_wrappings_of_the_shared_script_are_read_whole(shared: Path, tmp_path: Path) -> None:
    source = shared / "weights" / "resnet18_tinyimagenet64.pth"
    script = shared / "cases" / "checkpoint_wrappings.py"
    if not source.exists() or not script.exists():
        pytest.skip("../shared/cases is not here")
    subprocess.run([sys.executable, str(script), str(source), str(tmp_path)], check=True, timeout=300)
    state = torch.load(source, weights_only=True)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for path in files:
        wanted = {n: t for n, t in state.items() if path.name != "backbone.pth" or not n.startswith("fc.")}
        assert assert_whole(str(path), RESNET, wanted) == []
