from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets.arrays import ArraySet, prepare_arrays, prepare_made
from benchmarks.datasets.named import ARCHIVES, DATASETS, described, prepare
from harness.data.dataset import open_dataset
from harness.errors import Refused


def made(**changes: object) -> ArraySet:
    draw = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        return draw.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8), np.arange(count) % 2

    arrays = ArraySet(("a", "b"), {"train": split(8), "val": split(4)})
    return arrays._replace(**changes)


def with_split(name: str, images: object = None, labels: object = None) -> ArraySet:
    arrays = made()
    old = arrays.splits.get(name, arrays.splits["train"])
    new = (old[0] if images is None else images, old[1] if labels is None else labels)
    return arrays._replace(splits={**arrays.splits, name: new})


def test_arrays_come_back_unchanged(tmp_path: Path) -> None:
    arrays = made()
    result = prepare_arrays("mine", arrays, cache=tmp_path)
    dataset = open_dataset(result.folder)
    for name, (images, labels) in arrays.splits.items():
        assert np.array_equal(dataset.splits[name].images, images)
        assert np.array_equal(dataset.splits[name].labels, labels)
    assert (result.meta.side, result.meta.test_is_val, result.files) == (16, True, None)
    assert prepare_arrays("mine", made(), cache=tmp_path).folder == result.folder


def test_another_image_size_resizes_and_says_so(tmp_path: Path) -> None:
    result = prepare_arrays("mine", made(), image_size=24, cache=tmp_path)
    assert (result.meta.side, result.meta.image_size) == (24, 24)
    assert result.meta.notes == ("resized from 16 to 24 pixels",)
    assert open_dataset(result.folder).splits["train"].images.shape == (8, 24, 24, 3)


def test_a_recipe_that_is_in_the_cache_is_not_followed_again(tmp_path: Path) -> None:
    calls = []

    def make() -> ArraySet:
        calls.append(1)
        return made()

    assert prepare_made("mine", "r1", make, cache=tmp_path) == prepare_made("mine", "r1", make, cache=tmp_path)
    assert len(calls) == 1
    prepare_made("mine", "r2", make, cache=tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("name", DATASETS)
def test_every_generated_dataset_can_be_prepared_and_opened(tmp_path: Path, name: str) -> None:
    answer = prepare(data=name, cache=str(tmp_path))
    dataset = open_dataset(answer.folder)
    assert set(dataset.splits) == {"train", "val", "test"}
    assert len(dataset.meta.classes) > 1
    assert dataset.meta.name == name
    with pytest.raises(Refused, match="leave out --validation-split"):
        prepare(data=name, validation_split=0.2, cache=str(tmp_path))


def test_a_plugins_dataset_is_prepared_by_its_name(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import numpy as np\n"
        "def shades():\n"
        "    def split(start):\n"
        "        images = np.arange(start, start + 6, dtype=np.uint8)[:, None, None, None]\n"
        "        return images.repeat(16, 1).repeat(16, 2).repeat(3, 3), np.arange(6) % 2\n"
        "    return ['even', 'odd'], {'train': split(0), 'val': split(100)}\n"
        "DATASETS = {'shades': shades}\n"
    )
    meta = prepare(data="shades", plugin=str(plugin), cache=str(tmp_path / "cache")).meta
    assert (meta.name, meta.counts, meta.origin) == ("shades", {"train": 6, "val": 6}, "plugin mine.py")


def test_every_named_dataset_says_what_it_is() -> None:
    assert described().keys() == DATASETS.keys() | ARCHIVES.keys()
    assert all(described().values())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (made(classes=("a",)), "has 1 class; at least two"),
        (made(classes=("a", "b", "c")), "no training images of class 'c'"),
        (made(splits={"train": made().splits["train"]}), "use train, val and optionally test"),
        (with_split("extra"), "use train, val and optionally test"),
        (with_split("train", images=np.zeros((8, 16, 16, 3), np.float32)), "float32"),
        (with_split("train", images=np.zeros((8, 3, 16, 16), np.uint8)), r"uint8 \[n, side, side, 3\] is needed"),
        (with_split("val", images=np.zeros((4, 8, 8, 3), np.uint8)), "images of val and train have different sizes"),
        (with_split("val", labels=np.zeros(3, np.int64)), "3 labels of int64 for 4 images"),
        (with_split("val", labels=np.zeros(4)), "labels of float64"),
        (with_split("val", labels=np.array([0, 1, 2, 1])), "there must be labels, all from 0 to 1"),
        (
            with_split("val", images=np.zeros((0, 16, 16, 3), np.uint8), labels=np.zeros(0, np.int64)),
            "there must be labels",
        ),
        (with_split("val", images=made().splits["train"][0][4:]), r"the same image is in train \(4\) and in val \(0\)"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path: Path, arrays: ArraySet, words: str) -> None:
    with pytest.raises(Refused, match=words):
        prepare_arrays("mine", arrays, cache=tmp_path)
