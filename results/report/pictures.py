"""Small pictures of test images, from the prepared arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from harness.data.augment import centre_crop
from harness.data.dataset import Dataset
from results.report.predictions import JudgedImages
from results.report.thinning import evenly
from results.tables.wording import plain

FindPixels = Callable[[str], Dataset | None]
"""Finds the prepared dataset with this SHA-256; None if it is not in the cache."""
GRID, POOL = 24, 96
"""Numbers of images in the grid, and of further pictures of images that only some cases classify correctly."""
SIDE = 96


class Picture(NamedTuple):
    """One test image: its number, a data URI, and its file name if known."""

    id: int
    uri: str
    file: str


def nowhere(dataset_sha256: str) -> Dataset | None:
    """Find no dataset."""
    return None


def chosen(images: JudgedImages) -> tuple[list[int], list[int]]:
    """Choose the images of the grid, from easy to hard, and of the pool, from those that cases disagree about.

    Both are evenly spread over the number of cases that are wrong.
    """
    wrong = np.sum([~one.first.right for one in images.cases], axis=0)
    order = [int(place) for place in np.lexsort((np.arange(len(wrong)), wrong))]
    disputed = [place for place in order if 0 < wrong[place] < len(images.cases)]
    return evenly(order, GRID), evenly(disputed, POOL)


def pictures(images: JudgedImages, places: Iterable[int], find: FindPixels) -> dict[int, Picture]:
    """Make the pictures of these images by position; empty without the dataset."""
    dataset = find(images.dataset_sha256)
    if dataset is None or "test" not in dataset.splits:
        return {}
    split = dataset.splits["test"]
    found = {}
    for place in dict.fromkeys(places):
        id = int(images.ids[place])
        if id < len(split.images):
            side = min(images.image_size, *split.images.shape[1:3])
            pixels = np.ascontiguousarray(centre_crop(split.images[id], side))
            found[place] = Picture(id, _uri(pixels), plain(split.files[id]) if split.files else "")
    return found


def _uri(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
