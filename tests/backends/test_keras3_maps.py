from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from backends import keras3
from backends.keras3 import maps


def test_every_width_has_a_model_and_a_source() -> None:
    from backends.keras3.models import SOURCES

    assert set(keras3.MODELS) == {"mobilenet-v2"} | {f"mobilenet-v2-{w}" for w in ("0.35", "0.5", "0.75", "1.3", "1.4")}
    assert set(SOURCES) == set(keras3.MODELS)
    assert keras3.ENGINES[0] == "tensorflow"


def test_naming_a_model_imports_no_framework() -> None:
    code = "import sys; from backends import keras3; print([m for m in ('keras', *keras3.ENGINES) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_map_speaks_of_torchvisions_260_tensors_once_each() -> None:
    assert len(maps.MOBILENET_V2) == 260
    assert len({row.name for row in maps.MOBILENET_V2}) == 260
    assert {row.block for row in maps.MOBILENET_V2} == set(range(19))
    names = {row.variable: row.name for row in maps.MOBILENET_V2}
    assert names["block_16_project_BN/moving_variance"] == "features.17.conv.3.running_var"
    assert names["expanded_conv_project/kernel"] == "features.1.conv.1.weight"


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
    with pytest.raises(ValueError, match="misses a/extra"):
        maps.check(["a/kernel", "a/bias", "a/extra"], table)
    with pytest.raises(ValueError, match=r"repeats x\.weight"):
        maps.check(["a/kernel", "b/kernel"], [table[0], table[0]._replace(variable="b/kernel")])
    with pytest.raises(ValueError, match=r"x\.bias at a/bias, which the network does not have"):
        maps.check(["a/kernel"], table)
