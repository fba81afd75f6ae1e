"""The models: canonical names, sizes, and equality with the libraries' own networks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import pytorch
from backends.pytorch.models import Parts, resnet_parts
from harness.contract import Model
from harness.data.checkpoint import NORMALISATIONS, Checkpoint, CheckpointMeta
from harness.errors import Refused
from harness.running.initial_weights import head_arrays, overlay, random_arrays
from harness.spec import Case, Scenario

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
efficientnet_pytorch = pytest.importorskip("efficientnet_pytorch")

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
ORIGINALS: dict[str, Callable[[], Any]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "alexnet": torchvision.models.alexnet,
    "efficientnet-b0": lambda: efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0"),
    "efficientnet-b3": lambda: efficientnet_pytorch.EfficientNet.from_name("efficientnet-b3"),
    "mobilenet-v2": torchvision.models.mobilenet_v2,
    "mobilenet-v2-1.4": lambda: torchvision.models.mobilenet_v2(width_mult=1.4),
}


def open_session(name: str, size: int, model: Model | None = None, **fields: Any) -> Any:
    nothing = Scenario(name="none", explanation="", stages=())
    case = Case(
        backend="pytorch", model=name, scenario=nothing, dataset="d", dataset_sha256="", image_size=size, **fields
    )
    return pytorch.open_session(case, model or pytorch.MODELS[name], 2)


def shapes_of(model: Model) -> dict[str, tuple[int, ...]]:
    from backends.pytorch.weights.convert import backbone_shapes

    return backbone_shapes(model)


def test_naming_the_models_imports_no_framework() -> None:
    code = (
        "import sys, backends.pytorch as b; assert 'resnet18' in b.MODELS;"
        "assert not {'torch', 'torchvision', 'efficientnet_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


OPENMP = """
import os, sys
from harness.running.opening import find_model_for
from harness.spec import Case, Scenario
case = Case(backend="pytorch", model="resnet18", scenario=Scenario(name="", explanation="", stages=()), dataset="",
            dataset_sha256="", image_size=64)
find_model_for(case, sys.argv[1:])
loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
print(len(loaded), [sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to cores")
@pytest.mark.parametrize("plugins", [{}, {"own.py": "import torch\nMODELS = {}"}])
def test_openmp_counts_every_core_although_its_process_is_bound_to_one(
    plugins: dict[str, str], all_cores: list[int], tmp_path: Path
) -> None:
    for name, text in plugins.items():
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment["OMP_DISPLAY_ENV"] = "true"
    files = [str(tmp_path / name) for name in plugins]
    command = ["taskset", "-c", str(all_cores[-1]), sys.executable, "-c", OPENMP, *files]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, check=True, cwd=root, capture_output=True, text=True)
    assert f"OMP_NUM_THREADS = '{len(all_cores)}'" in done.stderr
    assert done.stdout.split(maxsplit=1) == ["1", f"{[[all_cores[-1]]]}\n"]


@pytest.mark.parametrize("name", ORIGINALS)
def test_names_and_shapes_are_the_librarys(name: str) -> None:
    model = pytorch.MODELS[name]
    original = {n: tuple(t.shape) for n, t in ORIGINALS[name]().state_dict().items()}
    kept = {n: shape for n, shape in original.items() if not n.startswith(model.classifier)}
    assert list(shapes_of(model).items()) == list(kept.items())
    assert len(kept) < len(original)


@pytest.mark.parametrize("name", pytorch.MODELS)
def test_every_tensor_has_a_block_a_part_and_a_role(name: str) -> None:
    model = pytorch.MODELS[name]
    tensors = list(open_session(name, max(64, model.minimum_size)).state())
    backbone = [t for t in tensors if t.part == "backbone"]
    assert [t.part for t in tensors] == sorted(t.part for t in tensors)
    assert {t.block for t in backbone} == set(range(model.blocks))
    assert [t.block for t in backbone] == sorted(t.block for t in backbone) or name.startswith("efficientnet")
    assert all(t.block == -1 for t in tensors if t.part == "head")
    roles = Counter(t.role for t in tensors)
    norms = {roles[r] for r in ("norm_scale", "norm_bias", "norm_mean", "norm_var", "counter")}
    assert len(norms) == 1 and roles["weight"] > 0


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("resnet18", 1.81, 1.82), ("efficientnet-b0", 0.38, 0.40), ("mobilenet-v2", 0.299, 0.31), ("alexnet", 0.71, 0.72)],
)
def test_multiply_accumulates_are_the_published_ones(name: str, low: float, high: float) -> None:
    session = open_session(name, 224)
    layers = session.layers()
    assert low <= sum(layer.macs for layer in layers) / 1e9 <= high
    held = sum(t.array.size for t in session.state() if t.role not in ("norm_mean", "norm_var", "counter"))
    assert sum({layer.name: layer.parameters for layer in layers}.values()) == held
    assert layers[-1].name == "head" and layers[-1].output == (2,)


def test_mobilenet_holds_the_tensors_of_kerass_file() -> None:
    h5py = pytest.importorskip("h5py")
    path = WEIGHTS / "mobilenet_v2_0.35_224_imagenet_notop.weights.h5"
    if not path.exists():
        pytest.skip("../shared/weights is not here")
    found: list[tuple[int, ...]] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(item.shape) if hasattr(item, "shape") else None)
    shapes = shapes_of(pytorch.MODELS["mobilenet-v2-0.35"])
    ours = [shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")]
    assert len(ours) == len(found) == 260
    assert Counter(tuple(sorted(s)) for s in ours) == Counter(tuple(sorted(s)) for s in found)


@pytest.mark.parametrize("size", [64, 75])
def test_mobilenet_pads_as_tensorflow_does(size: int) -> None:
    network = pytorch.MODELS["mobilenet-v2-0.35"].build(size).backbone
    strided = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.stride[0] == 2]
    assert len(strided) == 5
    for convolution in strided:
        rows = size
        padding = tuple(convolution.static_padding.padding)
        assert padding == ((0, 1, 0, 1) if rows % 2 == 0 else (1, 1, 1, 1))
        size = (rows + 1) // 2
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(
    ("name", "file"),
    [("resnet18", "resnet18_tinyimagenet64.pth"), ("efficientnet-b0", "efficientnet_b0_tinyimagenet64.pth")],
)
def test_real_weights_give_the_librarys_logits(name: str, file: str) -> None:
    if not (WEIGHTS / file).exists():
        pytest.skip("../shared/weights is not here")
    model = pytorch.MODELS[name]
    arrays, unmapped = pytorch.import_weights(str(WEIGHTS / file), model)
    assert unmapped == ()
    nothing = Scenario(name="none", explanation="", stages=())
    case = Case(backend="pytorch", model=name, scenario=nothing, dataset="d", dataset_sha256="", image_size=64)
    session = pytorch.open_session(case, model, 200)
    start = random_arrays(session.state(), model.initialisation, 0)
    start |= head_arrays("linear", session.head_features, 200, "default", 0)
    meta = CheckpointMeta(model=name, normalisation=NORMALISATIONS["imagenet"], origin="", sha256="")
    report = overlay(start, model, Checkpoint(meta, arrays))
    assert report.complete, report.sentence()
    start["head.weight"], start["head.bias"] = (arrays[f"{model.classifier}{end}"] for end in ("weight", "bias"))
    session.load(start)

    if name == "resnet18":
        original = torchvision.models.resnet18(num_classes=200)
    else:
        original = efficientnet_pytorch.EfficientNet.from_name(name, num_classes=200, image_size=64)
        original.set_swish(memory_efficient=False)
    original.load_state_dict(torch.load(WEIGHTS / file, weights_only=True))
    original.eval().to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).standard_normal((8, 64, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        wanted = original(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_array_equal(session.predict(images), wanted)


def test_efficientnet_has_the_outputs_and_gradients_of_the_library() -> None:
    ours = pytorch.MODELS["efficientnet-b0"].build(32).backbone.double().eval()
    theirs = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0", image_size=32).double().eval()
    theirs._fc = theirs._dropout = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = [network(images) for network in (ours, theirs)]
    scale = 1 / outputs[1].detach().abs().max()  # random weights make them tiny
    for output in outputs:
        (output * scale).square().sum().backward()
    gradients = [[tensor.grad for tensor in network.parameters()] for network in (ours, theirs)]
    with torch.no_grad():
        for mine, their in zip([outputs[0], *gradients[0]], [outputs[1], *gradients[1]], strict=True):
            assert (mine - their).abs().max() <= 1e-12 * their.abs().max()


def test_a_users_changed_resnet_loads_the_rest_and_says_what_it_could_not() -> None:
    def build(image_size: int) -> Parts:
        network = torchvision.models.resnet34()
        network.layer2[0].conv1 = torch.nn.Conv2d(64, 128, 5, stride=2, padding=2, bias=False)
        return resnet_parts(network)

    model = Model(name="mine", build=build, classifier="fc.", blocks=5)
    session = open_session("mine", 64, model)
    start = random_arrays(session.state(), model.initialisation, 0)
    arrays = {n: t.numpy() for n, t in torchvision.models.resnet34().state_dict().items()}
    meta = CheckpointMeta(model="resnet34", normalisation=NORMALISATIONS["imagenet"], origin="", sha256="")
    report = overlay(start, model, Checkpoint(meta, arrays))
    assert report.mismatched == (("layer2.0.conv1.weight", (128, 64, 5, 5), (128, 64, 3, 3)),)
    session.load(start)


def test_a_network_whose_tensors_are_all_loaded_is_built_without_drawing_its_parameters() -> None:
    def build(image_size: int) -> Parts:
        network = torchvision.models.resnet18()
        network.layer1.register_buffer("random_features", torch.empty(4).normal_(), persistent=False)
        return resnet_parts(network)

    def weights(**fields: Any) -> tuple[Any, Any]:
        torch.manual_seed(0)
        session = open_session("mine", 64, Model(name="mine", build=build, classifier="fc.", blocks=5), **fields)
        values = {t.name: t.array for t in session.state() if t.role == "weight"}
        buffer = session.network.parts.backbone.layer1.random_features
        return values, buffer.numpy().copy()

    matched, drawn_buffer = weights()
    assert matched and not any(array.any() for array in matched.values())
    assert drawn_buffer.all()
    own, _ = weights(idiom=True)
    assert all(array.any() for array in own.values())
    assert set(own) == set(matched)


def test_a_tensor_outside_the_blocks_is_refused() -> None:
    def build(image_size: int) -> Parts:
        parts = resnet_parts(torchvision.models.resnet18())
        return Parts(backbone=parts.backbone, features=parts.features, blocks=parts.blocks[1:])

    with pytest.raises(Refused, match=r"conv1\.weight is in no block of the backbone"):
        open_session("mine", 64, Model(name="mine", build=build, classifier="fc."))
