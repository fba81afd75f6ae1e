from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from backends import keras3, pytorch
from backends.keras3.models import efficientnet, maps, mobilenet_v2, resnet
from backends.keras3.models.published import MOBILENET_V2
from harness.data.checkpoint import NORMALISATIONS

TABLES = {
    "resnet18": resnet.weight_map((2, 2, 2, 2)),
    "resnet34": resnet.weight_map((3, 4, 6, 3)),
    "efficientnet-b0": efficientnet.weight_map(1.0),
    "efficientnet-b3": efficientnet.weight_map(1.4),
    "mobilenet-v2": mobilenet_v2.WEIGHT_MAP,
}


def test_every_width_of_mobilenet_has_a_source_and_alexnet_has_no_twin() -> None:
    widths = {"mobilenet-v2"} | {f"mobilenet-v2-{w}" for w in ("0.35", "0.5", "0.75", "1.3", "1.4")}
    assert set(keras3.MODELS) == {"resnet18", "resnet34", "efficientnet-b0", "efficientnet-b3"} | widths
    assert {name for name, model in keras3.MODELS.items() if model.published} == widths
    assert keras3.ENGINES[0] == "tensorflow"


@pytest.mark.skipif(not find_spec("keras"), reason="keras is not installed")
def test_the_published_weights_are_those_that_keras_fetches() -> None:
    spec = find_spec("keras")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "src/applications/mobilenet_v2.py").read_text()
    (folder,) = re.findall(r'BASE_WEIGHT_PATH = \(\s*"(\S+)"', source)
    assert re.search(r'"mobilenet_v2_weights_tf_dim_ordering_tf_kernels"\s+f"_\{float\(alpha\)\}_\{rows\}.h5"', source)
    assert 'preprocess_input(\n        x, data_format=data_format, mode="tf"' in source  # from -1 to 1
    (widths,) = re.findall(r"alpha not in \[(.*)\]:", source)
    assert {float(width) for width in widths.split(",")} == set(MOBILENET_V2)
    for width, published in MOBILENET_V2.items():
        assert published.url == f"{folder}mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224.h5"
        assert published.normalisation == NORMALISATIONS["minus-one-to-one"]


def test_facts_about_a_model_are_those_of_its_twin() -> None:
    facts = ("name", "classifier", "initialisation", "blocks", "minimum_size", "gmacs")
    for name, model in keras3.MODELS.items():
        assert [getattr(model, fact) for fact in facts] == [getattr(pytorch.MODELS[name], fact) for fact in facts]


def test_naming_a_model_imports_no_framework() -> None:
    code = "import sys; from backends import keras3; print([m for m in ('keras', *keras3.ENGINES) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "tensors"),
    [("resnet18", 100), ("resnet34", 180), ("efficientnet-b0", 309), ("efficientnet-b3", 494), ("mobilenet-v2", 260)],
)
def test_a_map_speaks_of_the_librarys_tensors_once_each(model: str, tensors: int) -> None:
    table = TABLES[model]
    assert len(table) == len({row.name for row in table}) == len({row.variable for row in table}) == tensors
    assert [row.block for row in table] == sorted(row.block for row in table)
    assert {row.block for row in table} == set(range(keras3.MODELS[model].blocks))


@pytest.mark.parametrize(
    ("model", "variable", "name"),
    [
        ("mobilenet-v2", "block_16_project_BN/moving_variance", "features.17.conv.3.running_var"),
        ("mobilenet-v2", "expanded_conv_project/kernel", "features.1.conv.1.weight"),
        ("resnet34", "layer3_5_bn2/gamma", "layer3.5.bn2.weight"),
        ("resnet18", "layer2_0_downsample_1/moving_mean", "layer2.0.downsample.1.running_mean"),
        ("efficientnet-b0", "block1a_project_bn/beta", "_blocks.0._bn2.bias"),
        ("efficientnet-b3", "block7b_se_expand/bias", "_blocks.25._se_expand.bias"),
    ],
)
def test_a_tensor_has_its_librarys_name(model: str, variable: str, name: str) -> None:
    assert {row.variable: row.name for row in TABLES[model]}[variable] == name


@pytest.mark.parametrize(("layout", "shape"), [("conv", (3, 3, 4, 8)), ("depthwise", (3, 3, 4, 2)), ("dense", (5, 7))])
def test_a_layout_and_its_inverse_give_the_same_array(layout: maps.Layout, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    canonical = maps.to_canonical(array, layout)
    assert canonical.shape == maps.canonical_shape(shape, layout)
    assert np.array_equal(maps.to_keras(canonical, layout, channels=shape[-2]), array)


def test_a_depthwise_kernel_keeps_its_channels_together() -> None:
    array = np.zeros((3, 3, 4, 2))
    array[..., 3, 1] = 1
    assert maps.to_canonical(array, "depthwise").sum(axis=(1, 2, 3)).tolist() == [0, 0, 0, 0, 0, 0, 0, 9]


def test_a_map_that_misses_or_repeats_a_tensor_names_it() -> None:
    table = maps.rows("a", "x", "dense", 0)
    shapes = {"a/kernel": (3, 4), "a/bias": (4,)}
    maps.check(shapes, table)
    with pytest.raises(ValueError, match="misses a/extra"):
        maps.check({**shapes, "a/extra": (4,)}, table)
    with pytest.raises(ValueError, match=r"repeats x\.weight, for a/kernel and b/kernel"):
        maps.check({"a/kernel": (3, 4), "b/kernel": (3, 4)}, [table[0], table[0]._replace(variable="b/kernel")])
    with pytest.raises(ValueError, match=r"x\.bias at a/bias, which the network does not have"):
        maps.check({"a/kernel": (3, 4)}, table)


def test_a_map_with_a_wrong_shape_names_both_tensors() -> None:
    dense, conv = maps.rows("a", "x", "dense", 0)[0], maps.rows("b", "y", "conv", 0)[0]
    with pytest.raises(ValueError, match=r"layout dense for x\.weight; a/kernel is \[3, 3, 8, 16\]"):
        maps.check({"a/kernel": (3, 3, 8, 16)}, [dense])
    with pytest.raises(
        ValueError, match=r"y\.weight \[16, 4, 3, 3\] does not fit b/kernel \[3, 3, 8, 16\], which needs"
    ):
        maps.fitted(np.zeros((16, 4, 3, 3)), conv, (3, 3, 8, 16))
