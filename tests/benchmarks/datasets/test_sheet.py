from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.datasets.contact_sheet import sheet
from harness.data.augment import compose, parse_augment
from harness.data.dataset import open_dataset


def made(cache: Path, classes: tuple[str, ...] = ("ants", "bees")) -> Path:
    draw = np.random.default_rng(0)
    splits = {
        split: (draw.integers(0, 256, (count, 40, 40, 3), dtype=np.uint8), np.arange(count) % len(classes))
        for split, count in (("train", 20), ("val", 6))
    }
    return prepare_arrays("made", ArraySet(classes, splits), cache=cache).folder


def test_the_sheet_holds_the_very_pixels_that_the_feed_makes(tmp_path: Path) -> None:
    folder = made(tmp_path / "cache")
    augmentations = parse_augment("random-resized-crop,flip")
    written = sheet(folder, tmp_path / "s.png", augmentations=augmentations, image_size=32, seed=3, columns=4, rows=2)
    with Image.open(written) as picture:
        shown = np.asarray(picture)
    train = open_dataset(folder, limit=8).splits["train"]
    for place, sample in enumerate(train.ids.tolist()):
        expected = compose(augmentations)(train.images[sample], 3, 0, sample, 32)
        top, left = 22 + place // 4 * (32 + 22), 6 + place % 4 * 38
        assert np.array_equal(shown[top : top + 32, left : left + 32], expected)


def test_val_is_shown_as_evaluated_and_not_again_as_test(tmp_path: Path) -> None:
    folder = made(tmp_path / "cache")
    sheet(folder, tmp_path / "a.png", columns=4, rows=2)
    sheet(folder, tmp_path / "b.png", augmentations=parse_augment("rotation:degrees=90"), columns=4, rows=2)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.height == 2 * (22 + 2 * (40 + 22))
        half = a.height // 2
        lower = (0, half, a.width, a.height)
        assert np.array_equal(np.asarray(a.crop(lower)), np.asarray(b.crop(lower)))
        assert not np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", ["蚂蚁", "a\nb", "x" * 200, "é", "", "caf\\xe9", "🐜"])
def test_any_class_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    assert sheet(made(tmp_path / "cache", ("a", name)), tmp_path / "s.png").stat().st_size > 0
