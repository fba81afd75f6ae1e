"""`advise` on the reference backend: an answer or its absence on every kind of data, and a record for every run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.advising.advise import divided
from benchmarks.advising.field import Budget, MachineField, Setup
from benchmarks.advising.held_out import TEST_SPLIT, HeldOut, held_out
from benchmarks.advising.policy import PROBE, Contender
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import of_model
from benchmarks.preparing.plan import Preparation
from harness.process.machine import describe_machine, environment
from results.storage.run_files import open_run
from tests.benchmarks.commanding import endings, invoke, records, refused

QUICK = ("--backend", "reference", "--model", "tiny-cnn", "--image-size", "32", "--epochs", "4", "--quiet")
SHARES = {8: 2 / 4, 40: 10 / 20, 120: 30 / 33}
"""The share of bees in the test images by their number."""


def photos(folder: Path, counts: dict[str, int]) -> Path:
    """A folder of small photographs: a number for each class folder."""
    draw = np.random.default_rng(0)
    for number, (place, count) in enumerate(counts.items()):
        (folder / place).mkdir(parents=True)
        for name in range(count):
            pixels = draw.integers(0, 160, (36, 36, 3)).astype(np.uint8)
            pixels[:, :, number % 2] += 90
            Image.fromarray(pixels).save(folder / place / f"{name}.png")
    return folder


@pytest.fixture
def balanced(tmp_path: Path) -> Path:
    return photos(tmp_path / "balanced", {"ants": 40, "bees": 40})


def advised(data: Path | str, checkpoint: Path, results: Path, *more: str) -> tuple[int, str]:
    result = invoke("advise", str(data), *QUICK, "--checkpoint", checkpoint, "--results", results, *more)
    return result.exit_code, result.stdout


@pytest.mark.timeout(300)
def test_the_same_number_of_runs_gives_the_same_choice(balanced: Path, checkpoint: Path, tmp_path: Path) -> None:
    said = [advised(balanced, checkpoint, tmp_path / name, "--steps", "6")[1] for name in "ab"]
    chosen = [re.sub(r"[\d.]+ s\b", "", text).splitlines()[0] for text in said]
    assert chosen[0] == chosen[1]
    assert chosen[0].startswith("On balanced, the best accuracy within 6 runs was ")
    assert "of tiny-cnn with reference" in chosen[0]
    assert "on 20 test images that did not choose it" in chosen[0]
    first, second = ([(one.key, one.val) for one in records(tmp_path / name)] for name in "ab")
    assert first == second
    assert len(first) == 6
    assert endings(tmp_path / "a") == ["done"]


@pytest.mark.timeout(300)
def test_the_command_that_it_prints_runs_the_chosen_case(balanced: Path, checkpoint: Path, tmp_path: Path) -> None:
    _, text = advised(balanced, checkpoint, tmp_path / "results", "--steps", "3")
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["finetune-bench", "run"]
    assert {"--test-split", "0.25", "--seeds", "5"} <= set(words)
    result = invoke(*words[1:], "--dry-run", "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    assert "5 cases" in result.stdout


def test_the_command_that_it_prints_has_no_checkpoint_of_another_model() -> None:
    texts = ("imagenet", "resnet18=a.pth", "efficientnet-b0=b=c.pth", "my=file.pth")
    assert of_model(texts, "resnet18", read_catalogue()) == ("imagenet", "resnet18=a.pth", "my=file.pth")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("counts", "more"),
    [
        ({"ants": 8, "bees": 8}, ("--steps", "4")),
        ({"ants": 12, "bees": 120}, ("--steps", "4")),
        ({"ants": 40, "bees": 40}, ("--steps", "4", "--scenario", "full")),
        ({"ants": 40, "bees": 40}, ("--minutes", "0.3")),
    ],
    ids=["8 images per class", "one class is ten times as large", "one network and one method", "a short time"],
)
def test_small_and_uneven_data_get_an_answer_with_its_limits(
    tmp_path: Path, checkpoint: Path, counts: dict[str, int], more: tuple[str, ...]
) -> None:
    code, text = advised(photos(tmp_path / "data", counts), checkpoint, tmp_path / "results", *more)
    assert code == 0, text
    assert re.match(r"On data, the best accuracy within .* was .*95 % interval", text)
    assert "The resolution of" in text
    assert ("The batch size is 2, because there are few training images." in text) == (counts["ants"] == 8)
    low = float(re.findall(r"interval ([\d.]+)–", text)[0])
    assert ("It cannot be told from always answering" in text) == (low <= 100 * SHARES[counts["bees"]])


@pytest.mark.timeout(120)
def test_without_checkpoint_and_with_everything_declined_it_cannot_be_told(balanced: Path, tmp_path: Path) -> None:
    result = invoke("advise", balanced, *QUICK, "--checkpoint", "imagenet", "--steps", "5", "--results", tmp_path / "r")
    assert result.exit_code == 3
    assert result.stdout.startswith("On balanced, it cannot be told which case is best: nothing was measured within")
    assert ": probe of tiny-cnn with reference, full of tiny-cnn with reference, " in result.stdout


@pytest.mark.timeout(120)
def test_a_time_that_is_over_before_the_first_run_is_said(balanced: Path, checkpoint: Path, tmp_path: Path) -> None:
    code, text = advised(balanced, checkpoint, tmp_path / "results", "--minutes", "0.001")
    assert code == 3
    assert "it cannot be told which case is best" in text
    assert "no time was left" in text


def test_an_option_with_several_values_is_refused(balanced: Path, checkpoint: Path, tmp_path: Path) -> None:
    more = ("--augment", "none", "--augment", "flip", "--results", tmp_path / "results")
    assert "give one value of each other option" in refused("advise", balanced, *QUICK, *more)


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "did you mean embedded" in refused("advise", "embeded", *QUICK, "--results", tmp_path / "results")


@pytest.mark.parametrize(
    ("places", "wanted", "found"),
    [
        (("train", "val", "test"), {}, HeldOut({}, folds=False)),
        (("train", "test"), {}, HeldOut({}, folds=True)),
        (("train", "valid"), {}, HeldOut({"splits": "train=train,test=valid"}, folds=True)),
        (("train", "val"), {"test_split": 0.5}, HeldOut({"test_split": 0.5}, folds=False)),
        ((".",), {}, HeldOut({"test_split": TEST_SPLIT}, folds=True)),
    ],
)
def test_test_images_are_kept_out_of_the_choice(
    tmp_path: Path, places: tuple[str, ...], wanted: dict[str, float], found: HeldOut
) -> None:
    for place in places:
        photos(tmp_path / "data" / place, {"ants": 4, "bees": 4})
    assert held_out(str(tmp_path / "data"), wanted, read_catalogue(())) == found


def test_generated_data_is_left_as_it_is() -> None:
    assert held_out("embedded", {}, read_catalogue(())) == HeldOut({}, folds=False)


def test_a_framework_that_a_certificate_covers_is_left_for_the_end(tmp_path: Path) -> None:
    catalogue = read_catalogue(())
    preparation = Preparation(catalogue, lambda event: None)
    options = {"data": ("embedded",), "model": ("mobilenet-v2-0.35",)}
    division, data = divided(options, catalogue, preparation)
    machine = describe_machine()
    with open_run(tmp_path, command=(), planned=(), machine=machine, environment=environment()) as writer:
        setup = Setup(catalogue, preparation, writer, machine, lambda event: None, options, division, data)
        field = MachineField(setup, Budget(0.0, 600.0, steps=5))
    (network,) = field.networks
    assert field.twins == {"mobilenet-v2-0.35 with keras3-tensorflow": network}
    ((twin, proof),) = field.twins_of(Contender(network, "full", 1))
    assert proof is not None
    assert field.selected(twin, 0).case.backend == "keras3"
    ((_, unproved),) = field.twins_of(Contender(network, PROBE, 2))
    assert unproved is None
