from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.inspecting.predict import Prediction
from harness.running.record import Record
from results.storage.objects import get_arrays
from tests.benchmarks.commanding import invoke, refused
from tests.benchmarks.conftest import CLASSES, Finished


def model_dir(record: Record) -> Path:
    return Path(record.artefacts["model"])


def predictions(*arguments: str | Path) -> list[Prediction]:
    result = invoke("predict", *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=list[Prediction])


@pytest.mark.parametrize("form", [(), ("--native",)], ids=["neutral", "native"])
def test_a_kept_network_gives_the_very_logits_of_the_run_for_its_test_images(
    finished: Finished, images: Path, form: tuple[str, ...]
) -> None:
    record = finished.records[0]
    assert record.logits is not None
    said = predictions(model_dir(record), images / "test", *form)
    assert [Path(p.image).parent.name for p in said] == sorted(Path(p.image).parent.name for p in said)
    logits = np.array([p.logits for p in said], dtype=np.float32)
    np.testing.assert_array_equal(logits, get_arrays(finished.results, record.logits)["logits"])


def test_every_case_of_a_run_keeps_a_network_of_its_own(finished: Finished, images: Path) -> None:
    folders = {model_dir(record) for record in finished.records}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {finished.models}
    image = images / "test" / "red" / "02.png"
    assert len({predictions(folder, image)[0].logits for folder in folders}) == 4


def test_labels_and_shares_follow_from_the_logits(finished: Finished, images: Path) -> None:
    said = predictions(model_dir(finished.records[0]), images / "test")
    for prediction in said:
        shares = np.exp(prediction.logits) / np.exp(prediction.logits).sum()
        assert prediction.label == CLASSES[int(np.argmax(shares))]
        assert prediction.confidence == pytest.approx(shares.max())


def test_people_get_a_line_per_image(finished: Finished, images: Path) -> None:
    result = invoke("predict", model_dir(finished.records[0]), images / "test" / "red" / "02.png")
    assert result.stdout.startswith("'02.png'")
    assert any(f"'{name}'" in result.stdout for name in CLASSES)
    assert "%" in result.stdout


def test_a_file_that_cannot_be_read_is_said_so_beside_the_others(
    finished: Finished, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a\nb.png").write_bytes(b"no image")
    good = images / "test" / "red" / "02.png"
    folder = model_dir(finished.records[0])
    alone = predictions(folder, good)
    both = predictions(folder, tmp_path / "a\nb.png", good)
    assert (both[0].label, both[0].problem) == (None, "unknown image format")
    assert both[1:] == alone
    text = invoke("predict", folder, tmp_path / "a\nb.png").stdout
    assert text.count("\n") == 1
    assert "not readable: unknown image format" in text


def test_images_that_are_not_there_and_folders_without_a_network_are_refused(
    finished: Finished, images: Path, tmp_path: Path
) -> None:
    assert "nothing.png: no such file" in refused("predict", model_dir(finished.records[0]), tmp_path / "nothing.png")
    assert "give a folder that `run --save-model` wrote" in refused("predict", tmp_path, images / "test")


def test_a_kept_file_that_was_edited_is_refused(finished: Finished, images: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(model_dir(finished.records[0]), tmp_path / "copy"))
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert "its SHA-256 differs" in refused("predict", copy, images / "test" / "red" / "02.png")
