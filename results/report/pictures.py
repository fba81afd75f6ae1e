"""Pictures of test images, small enough for a page, from the prepared arrays."""

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
"""The prepared data set with this SHA-256, or None where it is no longer kept."""
GRID, POOL = 24, 96
"""Images in the grid, and pictures in the page at most beside them, of images that cases disagree about."""
SIDE = 96


class Picture(NamedTuple):
    """One test image: its number, a data URI, and the name of its file where that is known."""

    id: int
    uri: str
    file: str


def nowhere(dataset_sha256: str) -> Dataset | None:
    """Where no pixels are kept."""
    return None


def chosen(images: JudgedImages) -> tuple[list[int], list[int]]:
    """Places of the images of the grid, from those that every case got right to those that none did; and of the pool.

    Both are spread evenly, so nobody picked what looks good.
    """
    wrong = np.sum([~one.first.right for one in images.cases], axis=0)
    order = [int(place) for place in np.lexsort((np.arange(len(wrong)), wrong))]
    disputed = [place for place in order if 0 < wrong[place] < len(images.cases)]
    return evenly(order, GRID), evenly(disputed, POOL)


def pictures(images: JudgedImages, places: Iterable[int], find: FindPixels) -> dict[int, Picture]:
    """The pictures of these places by place; empty where the pixels are gone."""
    dataset = find(images.dataset_sha256)
    if dataset is None or "test" not in dataset.splits:
        return {}
    split = dataset.splits["test"]
    found = {}
    for place in dict.fromkeys(places):
        id = int(images.ids[place])
        if id < len(split.images):
            pixels = np.ascontiguousarray(
                centre_crop(split.images[id], min(images.image_size, *split.images.shape[1:3]))
            )
            found[place] = Picture(id, _uri(pixels), plain(split.files[id]) if split.files else "")
    return found


def _uri(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
