"""The native pipeline: torchvision's transforms and DataLoader, every sample counted."""

from __future__ import annotations

import importlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.augment import AUGMENTATIONS
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed, normalise
from harness.errors import Declined, Refused
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


def photos(folder: Path) -> tuple[str, ...]:
    """JPEG files as cameras and tools write them, one of them turned, one grey, one CMYK, and a PNG."""
    draw = np.random.default_rng(3)
    pixels = np.kron(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8), np.ones((7, 7, 1), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    saved: dict[str, dict[str, Any]] = {
        "plain.jpg": {"quality": 85}, "best.jpg": {"quality": 97, "subsampling": 0},
        "stepwise.jpg": {"progressive": True}, "turned.jpg": {"exif": turned}, "picture.png": {},
    }  # fmt: skip
    for name, options in saved.items():
        Image.fromarray(pixels).save(folder / name, **options)
    Image.fromarray(pixels).convert("L").save(folder / "grey.jpg")
    Image.fromarray(pixels).convert("CMYK").save(folder / "print.jpg")
    return tuple(str(path) for path in sorted(folder.iterdir()))


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


@pytest.fixture
def simplejpeg(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that simplejpeg was asked to decode."""
    pytest.importorskip("simplejpeg")
    decode, asked = native._JPEG["simplejpeg"], list[bytes]()
    monkeypatch.setitem(native._JPEG, "simplejpeg", lambda data: asked.append(data) or decode(data))
    return asked


def split_of(files: tuple[str, ...]) -> Split:
    ids = np.arange(len(files), dtype=np.int64)
    return Split(np.zeros((len(files), SIDE, SIDE, 3), np.uint8), ids % 3, ids, files)


def test_another_decoder_reads_the_pixels_of_pillow_from_jpeg_files_alone(
    simplejpeg: list[bytes], tmp_path: Path
) -> None:
    for file in photos(tmp_path):
        plain, other = (np.asarray(native._load(file, native._JPEG[name])) for name in ("pillow", "simplejpeg"))
        assert other.shape == plain.shape, file
        assert np.abs(other.astype(int) - plain).max() == 0, file
    assert len(simplejpeg) == 5  # not the CMYK one, and not the PNG
    assert all(data[:2] == b"\xff\xd8" for data in simplejpeg)


def test_another_decoder_gives_the_same_batches(simplejpeg: list[bytes], tmp_path: Path) -> None:
    batches = {}
    for name in ("pillow", "simplejpeg"):
        feed = make_feed(split_of(photos(tmp_path)))
        batches[name] = torch.cat([images for images, _ in native.epoch(native.pipeline(feed, name, pin=False), feed)])
    assert simplejpeg
    assert torch.equal(batches["pillow"], batches["simplejpeg"])


def test_a_decoder_that_reads_other_pixels_is_declined_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = lambda data: np.asarray(Image.open(BytesIO(data)).convert("RGB")) // 8 * 8  # noqa: E731
    monkeypatch.setitem(native._JPEG, "simplejpeg", dark)
    reason = r"^simplejpeg reads other pixels than Pillow from .*\.jpg, up to 7 of 255 levels; use --decoder pillow$"
    with pytest.raises(Declined, match=reason):
        native.pipeline(make_feed(split_of(photos(tmp_path))), "simplejpeg", pin=False)
    with pytest.raises(Declined, match=r"have no files that could be decoded; leave out --decoder simplejpeg$"):
        native.pipeline(make_feed(make_split()), "simplejpeg", pin=False)


def test_a_damaged_file_is_named_whoever_decodes_it(simplejpeg: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "plain.jpg"
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:200] + b"\0" * 40)
    for jpeg in native._JPEG.values():
        with pytest.raises(Refused, match=r"plain\.jpg: damaged"):
            native._load(str(file), jpeg)
    assert len(simplejpeg) == 1
