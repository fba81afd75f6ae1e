"""A batch of one image never reaches a batch norm that gets one value per channel."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.preparing.plan import refuse_single_values
from harness.errors import Refused
from harness.spec import Case
from tests.benchmarks.commanding import refused


def case(backend: str, model: str, scenario: str, image_size: int, **changes: object) -> Case:
    wanted = {"batch_size": (1,), "threads": (1,), **changes}
    (selected,) = expand(
        Selection(backend=(backend,), model=(model,), scenario=(scenario,), image_size=(image_size,), **wanted),
        read_catalogue(),
    )
    return selected.case


@pytest.mark.parametrize(
    ("one", "layer"),
    [
        (case("reference", "tiny-cnn", "full", 8), "features.2.1"),
        (case("pytorch", "resnet18", "full", 32), "layer4.0.bn1"),
        (case("keras3", "mobilenet-v2-0.35", "freeze-blocks", 32), "features."),
    ],
    ids=lambda value: value.model if isinstance(value, Case) else "",
)
def test_a_network_whose_last_features_are_one_value_is_refused_by_its_layer(one: Case, layer: str) -> None:
    with pytest.raises(Refused) as caught:
        refuse_single_values(one, ())
    line = str(caught.value)
    assert f"{one.scenario.name}, stage 1: with a batch of 1 image of {one.image_size} px, {layer}" in line
    assert all(remedy in line for remedy in ("--batch-size 2", "--image-size", "--bn-mode frozen"))


def test_the_stage_that_trains_on_such_batches_is_named() -> None:
    one = case("reference", "tiny-cnn", "two-stage", 8)
    head, all_of_it = one.scenario.stages
    with pytest.raises(Refused, match="two-stage, stage 2: "):
        refuse_single_values(one, ())
    larger = replace(all_of_it, batch_size=2)
    refuse_single_values(replace(one, scenario=replace(one.scenario, stages=(head, larger))), ())


@pytest.mark.parametrize(
    "one",
    [
        case("reference", "tiny-cnn", "full", 16),
        case("reference", "tiny-cnn", "full", 8, batch_size=(2,)),
        case("reference", "tiny-cnn", "freeze-conv", 8),
        case("reference", "tiny-cnn", "full", 8, bn_mode="frozen"),
    ],
    ids=["more values", "more images", "a frozen backbone", "a frozen norm"],
)
def test_what_batch_norm_can_normalise_is_let_through(one: Case) -> None:
    refuse_single_values(one, ())


def test_a_run_is_refused_before_anything_is_measured(images: Path, tmp_path: Path) -> None:
    quick = ("--backend", "reference", "--model", "tiny-cnn", "--image-size", "8", "--augment", "none")
    results = tmp_path / "results"
    line = refused("run", *quick, "--batch-size", "1", "--scenario", "scratch", "--data", images, "--results", results)
    assert "scratch, stage 1: with a batch of 1 image of 8 px, features.2.1 of tiny-cnn gets one value" in line
    assert not results.exists()
