"""The native pipeline: torchvision's transforms and DataLoader, every sample counted."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.augment import AUGMENTATIONS
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed, normalise
from harness.spec import Augmentation

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
native = importlib.import_module("backends.pytorch.native")

SIDE, SIZE, IMAGES = 40, 32, 10


def make_feed(split: Split, augmentations: tuple[Augmentation, ...] = (), workers: int = 0) -> Feed:
    return Feed(
        split,
        batch_size=5,
        epochs=2,
        seed=0,
        image_size=SIZE,
        normalisation=NORMALISATIONS["imagenet"],
        augmentations=augmentations,
        layout="nchw",
        input="native",
        workers=workers,
    )


def make_split(files: tuple[str, ...] | None = None) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    ids = np.arange(IMAGES, dtype=np.int64)
    return Split(pixels, ids % 3, ids, files)


def collect(feed: Feed) -> list[list[Any]]:
    loader = native.pipeline(feed, pin=False)
    return [list(native.epoch(loader, feed)) for _ in range(feed.epochs)]


# Two workers are asked for where there may be one core.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_comes_once_per_epoch_in_another_order(workers: int) -> None:
    feed = make_feed(make_split(), workers=workers)
    first, second = collect(feed)
    assert feed.delivered.samples_seen == (2, 2)
    assert feed.waited_ns > 0
    assert not torch.equal(torch.cat([labels for _, labels in first]), torch.cat([labels for _, labels in second]))


def test_the_order_depends_on_the_seed_alone() -> None:
    feeds = [make_feed(make_split()) for _ in range(2)]
    for feed in feeds:
        collect(feed)
    assert feeds[0].delivered.order_sha256 == feeds[1].delivered.order_sha256


def test_unaugmented_pixels_are_the_harnesss() -> None:
    split = make_split()
    loader = native.pipeline(make_feed(split), pin=False)
    rim = (SIDE - SIZE) // 2
    wanted = normalise(split.images[:, rim : rim + SIZE, rim : rim + SIZE], NORMALISATIONS["imagenet"], "nchw")
    for images, _, positions in loader:
        np.testing.assert_allclose(images.numpy(), wanted[positions.numpy()], atol=2e-6)


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"views"}))
def test_every_augmentation_of_the_harness_has_a_native_one(name: str) -> None:
    feed = make_feed(make_split(), (Augmentation(name=name),))
    for images, _ in collect(feed)[0]:
        assert images.shape == (5, 3, SIZE, SIZE) and images.dtype == torch.float32


def test_source_files_are_decoded_where_there_are_any(tmp_path: Path) -> None:
    split = make_split()
    files = []
    for number, image in enumerate(split.images):
        path = tmp_path / f"{number}.png"
        Image.fromarray(image).resize((60, 80)).save(path)
        files.append(str(path))
    feed = make_feed(split._replace(files=tuple(files), images=np.zeros_like(split.images)))
    images, _ = collect(feed)[0][0]
    assert images.shape == (5, 3, SIZE, SIZE) and float(images.std()) > 0.1
