"""The pretrained networks that come with the project: their bytes, their recipe, and that they can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.scenarios import PRETRAINING
from benchmarks.datasets import embedded
from benchmarks.preparing.embedded_networks import SHIPPED, embedded_network, write_half
from harness.data.checkpoint import NORMALISATIONS, read_checkpoint, read_meta, write_checkpoint
from harness.errors import Refused
from harness.spec import Scenario
from results import load
from tests.benchmarks.commanding import invoke

DIGESTS = {
    "efficientnet-b0": "998d88c0e6287f1c5e636e9bd7b021b8b9e1c3a42c182163d52fdd2da34084ed",
    "mobilenet-v2-0.35": "5dece6058ac80ce2554064d93e4f3a79ff9f3d7e131ebc071f4e09e69e137c36",
    "resnet18": "fd7370738b76c33145f53c6e1a47c410bb87d7b485823628850e946ff60a55ab",
}
SEEDS, POINTS = 5, 0.03


def test_exactly_these_networks_come_with_the_project_and_they_are_small() -> None:
    files = {path.stem: path for path in SHIPPED.iterdir()}
    assert {model: read_meta(path).sha256 for model, path in files.items()} == DIGESTS
    assert sum(path.stat().st_size for path in files.values()) <= 32_000_000


@pytest.mark.parametrize("model", DIGESTS)
def test_a_network_names_its_model_recipe_classes_and_origin(model: str) -> None:
    meta = read_meta(SHIPPED / f"{model}.safetensors")
    assert meta.model == model
    assert msgspec.convert(meta.recipe, Scenario) == PRETRAINING.get(model, PRETRAINING["*"])
    assert meta.classes == tuple(one.name for one in embedded.SOURCE)
    assert f"prepare --rebuild {model}" in meta.origin


@pytest.mark.parametrize("model", DIGESTS)
def test_a_network_is_stored_as_float16_and_read_as_float32(model: str) -> None:
    path = SHIPPED / f"{model}.safetensors"
    arrays = read_checkpoint(path).arrays
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert (
        sum(array.size for array in arrays.values()) * 2
        <= path.stat().st_size
        < sum(a.size for a in arrays.values()) * 2.2
    )


def test_a_network_of_the_project_needs_no_source_data() -> None:
    def source_data() -> NoReturn:
        raise AssertionError("the source task was prepared")

    path = embedded_network("resnet18", read_catalogue(), source_data, lambda event: None)
    assert path == SHIPPED / "resnet18.safetensors"


def test_half_precision_keeps_names_facts_and_values(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {"conv1.weight": draw.standard_normal((4, 3, 3, 3)).astype(np.float32), "fc.bias": np.float32([1e-5, 2])}
    counted = {**arrays, "bn1.num_batches_tracked": np.array(7, np.int64)}
    facts = {"normalisation": NORMALISATIONS["imagenet"], "classes": ("a", "b"), "head": "fc.", "image_size": 64}
    write_checkpoint(tmp_path / "whole", counted, model="resnet18", origin="here", **facts)
    write_half(str(tmp_path / "whole"), str(tmp_path / "half"), "resnet18")
    back = read_checkpoint(tmp_path / "half")
    assert back.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(back.arrays[name], array, rtol=1e-3, atol=1e-7)
    assert {name: getattr(back.meta, name) for name in facts} == facts


def test_a_value_that_float16_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    facts = {"model": "resnet18", "normalisation": NORMALISATIONS["imagenet"], "origin": "here"}
    write_checkpoint(tmp_path / "whole", {"bn1.running_var": np.float32([1e6])}, **facts)
    with pytest.raises(Refused, match=r"bn1\.running_var"):
        write_half(str(tmp_path / "whole"), str(tmp_path / "half"), "resnet18")


def test_a_model_that_no_backend_has_cannot_be_made_again(tmp_path: Path) -> None:
    result = invoke("prepare", "--rebuild", "resnet81", "--out", tmp_path / "x.safetensors")
    assert result.exit_code == 2 and "did you mean resnet18" in result.stderr


@pytest.mark.long
@pytest.mark.parametrize("model", DIGESTS)
def test_a_network_made_again_is_as_good_as_the_one_of_the_project(model: str, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    assert invoke("prepare", "--rebuild", model, "--out", again).exit_code == 0
    accuracy = {}
    for name, checkpoint in (("project", "embedded"), ("again", str(again))):
        run = invoke(
            "run", "--backend", "pytorch", "--model", model, "--scenario", "freeze-conv", "--seeds", str(SEEDS),
            "--checkpoint", checkpoint, "--results", tmp_path / name,
        )  # fmt: skip
        assert run.exit_code == 0, run.output
        accuracy[name] = float(load(tmp_path / name)["accuracy"].mean())
    assert abs(accuracy["project"] - accuracy["again"]) <= POINTS, accuracy
