"""A contact sheet: a picture of the images that a network gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from harness.data.augment import compose, format_augment
from harness.data.dataset import open_dataset
from harness.errors import printable
from harness.spec import Augmentation

_GAP, _LINE = 6, 16


def sheet(
    folder: str | Path,
    path: str | Path,
    *,
    augmentations: tuple[Augmentation, ...] = (),
    image_size: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    columns: int = 8,
    rows: int = 3,
) -> Path:
    """Write a PNG with `rows` of training images, augmented as in the epoch, then rows of val and test images.

    The pixels are those of the feed before normalisation. The images are spread evenly over each split.
    """
    dataset = open_dataset(folder, limit=columns * rows)
    size = image_size or dataset.meta.image_size
    blocks = []
    for name, split in dataset.splits.items():
        if not (name == "test" and dataset.meta.test_is_val):
            used = augmentations if name == "train" else ()
            how = f"{format_augment(used)}, seed {seed}, epoch {epoch}" if name == "train" else "centre crop"
            augment = compose(used)
            tiles = [augment(split.images[i], seed, epoch, int(i), size) for i in split.ids]
            names = [dataset.meta.classes[label] for label in split.labels]
            blocks.append(_block(f"{name}: {dataset.meta.counts[name]} images, {how}", tiles, names, columns))
    width = max(block.width for block in blocks)
    picture = Image.new("RGB", (width, sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        picture.paste(block, (0, top))
        top += block.height
    picture.save(path, format="PNG")
    return Path(path)


def _block(title: str, tiles: list[NDArray[np.uint8]], names: list[str], columns: int) -> Image.Image:
    size = len(tiles[0])
    lines = -(-len(tiles) // columns)
    height = _LINE + _GAP + lines * (size + _LINE + _GAP)
    block = Image.new("RGB", (_GAP + columns * (size + _GAP), height), "white")
    draw, font = ImageDraw.Draw(block), ImageFont.load_default()
    draw.text((_GAP, 2), title, fill="black", font=font)
    for place, (pixels, name) in enumerate(zip(tiles, names, strict=True)):
        left = _GAP + place % columns * (size + _GAP)
        top = _LINE + _GAP + place // columns * (size + _LINE + _GAP)
        block.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, top))
        text = printable(name).encode("ascii", "backslashreplace").decode()  # Pillow's font has no others
        while len(text) > 1 and draw.textlength(text, font=font) > size:
            text = text[:-2] + "~"
        draw.text((left, top + size + 2), text, fill="black", font=font)
    return block
