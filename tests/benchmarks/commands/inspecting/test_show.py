from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.commanding import EXAMPLES, invoke, refused
from tests.harness.cases import tiny_arrays, write_tiny


@pytest.fixture(scope="module")
def shown() -> str:
    result = invoke("show", "tiny-cnn", "--image-size", "32")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_model_shows_its_layers_shapes_parameters_and_macs(shown: str) -> None:
    assert "tiny-cnn at 32 px" in shown
    (first,) = [line for line in shown.splitlines() if line.strip().startswith("features.0.0 ")]
    assert first.split() == ["features.0.0", "Conv", "8×16×16", "216", "0.1"]
    assert "backbone 6,088 parameters, head 66, buffers 112" in shown


def test_a_model_shows_what_every_scenario_trains(shown: str) -> None:
    _, _, listed = shown.partition("blocks fixed")
    rows = {line.split()[0]: line.split()[1:] for line in listed.splitlines() if line.strip()}
    assert rows["full"] == ["1", "6,154", "100%", "0", "of", "3"]
    assert rows["freeze-conv"] == ["1", "66", "1%", "3", "of", "3"]
    assert rows["freeze-blocks"][-3:] == ["2", "of", "3"]
    assert {"scratch", "small-lr-conv", "head-10x", "freeze-conv-lr0", "freeze-conv-live-norm"} <= rows.keys()
    assert shown.count("two-stage") == 2


def test_a_model_shows_what_became_of_a_checkpoint(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    del arrays["features.1.0.weight"]
    path = write_tiny(tmp_path / "partial.safetensors", arrays)
    for scenario in ((), ("--scenario", "full")):
        result = invoke("show", "tiny-cnn", "--image-size", "32", "--checkpoint", path, *scenario)
        assert "checkpoint: 14 loaded, 1 missing (features.1.0.weight)" in result.stdout


def test_a_tensor_shows_its_values_of_the_checkpoint_if_one_is_named(checkpoint: Path) -> None:
    name = "features.0.0.weight"
    result = invoke("show", "tiny-cnn", "--tensor", name, "--checkpoint", checkpoint)
    array = tiny_arrays()[name]
    assert f"{name} [8, 3, 3, 3] float32, weight in the backbone" in result.stdout
    assert f"mean {array.mean():.6g}" in result.stdout
    assert f"from {array.min():.6g} to {array.max():.6g}" in result.stdout
    assert f"mean {array.mean():.6g}" not in invoke("show", "tiny-cnn", "--tensor", name).stdout


def test_a_plugin_s_model_is_shown_too() -> None:
    result = invoke("show", "two-blocks", "--plugin", EXAMPLES / "model.py", "--image-size", "32")
    assert result.exit_code == 0
    assert "backbone 420 parameters" in result.stdout


def test_a_dataset_shows_its_counts_classes_digest_and_a_contact_sheet(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    result = invoke("show", images, "--image-size", "32", "--out", out)
    assert result.exit_code == 0, result.output
    assert "three colours: 48 train, 12 val, 24 test; 3 classes: 'blue', 'green', 'red'" in result.stdout
    assert "SHA-256 " in result.stdout
    assert str(out) in result.stdout
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert min(pixels.shape[:2]) > 100
    assert pixels.std() > 10


def test_a_dataset_shows_every_class_skipped_file_and_copy(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(images, folder)
    first = sorted((folder / "train" / "red").iterdir())[0]
    shutil.copyfile(first, folder / "train" / "blue" / "copy.png")
    (folder / "train" / "red" / "note.txt").write_text("")
    (folder / "val" / "red" / "broken.png").write_bytes(b"no image")
    (folder / "val" / ".DS_Store").write_bytes(b"")
    result = invoke("show", folder, "--image-size", "32", "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert {"class 'blue': 17 train, 4 val, 8 test", "class 'red': 16 train, 4 val, 8 test"} <= set(lines)
    assert {line for line in lines if line.startswith(("skipped", "the same"))} == {
        "skipped 'train/red/note.txt': ending .txt",
        "skipped 'val/red/broken.png': unknown image format",
        "skipped 'val/.DS_Store': hidden or a system file",
        f"the same image: 'train/blue/copy.png', 'train/red/{first.name}'",
    }
    (said,) = [line for line in lines if "skipped:" in line]
    assert "3 files skipped: red 2 (1 ending .txt, 1 unreadable), outside the classes 1 (hidden" in said


def test_a_dataset_that_is_refused_shows_all_that_is_not_used(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(images, folder)
    for first in sorted((folder / "train" / "red").iterdir())[:3]:
        shutil.copyfile(first, folder / "val" / "red" / f"again-{first.name}")
    result = invoke("show", folder, "--image-size", "32", "--out", tmp_path / "sheet.png")
    assert result.exit_code == 2
    shared = [line for line in result.stdout.splitlines() if line.startswith("in two splits: 'train/red/")]
    assert len(shared) == 3
    assert "3 images are in more than one split (train and val: 3)" in result.stderr
    shutil.rmtree(folder / "val" / "red")
    (folder / "val" / "red").mkdir()
    (folder / "val" / "red" / "0.heic").write_bytes(b"")
    result = invoke("show", folder, "--image-size", "32", "--out", tmp_path / "sheet.png")
    assert result.stdout == "skipped 'val/red/0.heic': ending .heic\n"
    assert "no images in class 'red' (val); its file is skipped (ending .heic)" in result.stderr


def test_a_picture_is_written_only_if_it_is_asked_for(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("show", images, "--image-size", "32")
    assert result.exit_code == 0, result.output
    assert "contact sheet: not written; --out sheet.png writes" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert "--out writes the images of a dataset" in refused("show", "tiny-cnn", "--out", tmp_path / "sheet.png")


def test_a_sheet_that_cannot_be_written_is_refused(images: Path, tmp_path: Path) -> None:
    assert "sheet.png" in refused("show", images, "--image-size", "32", "--out", tmp_path / "nowhere" / "sheet.png")
