"""Datasets that are given as arrays, by a generator, a plugin or a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from benchmarks.datasets.writing import PreparedDataset, entry, finish, folder_of, recipe_key
from harness.data.dataset import SPLITS, content_digest
from harness.errors import Refused
from harness.rules import require
from results.rules.file_rules import image_in_two_splits

Arrays = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]


class ArraySet(NamedTuple):
    """A dataset as arrays: class names, and per split images uint8 [n, side, side, 3] with labels [n]."""

    classes: tuple[str, ...]
    splits: Arrays
    origin: str = ""


def prepare_arrays(
    name: str, arrays: ArraySet, *, image_size: int | None = None, cache: str | Path | None = None
) -> PreparedDataset:
    """Write arrays of a plugin or a test to the cache, resized if `image_size` differs from their size.

    Raises `Refused` for arrays of another type or shape, labels out of range, a class without training images, fewer
    than two classes, or an image that is in two splits.
    """
    _refuse_arrays(name, arrays)
    ordered = {split: arrays.splits[split] for split in SPLITS if split in arrays.splits}
    recipe = content_digest(arrays.classes, ordered)
    return prepare_made(name, recipe, lambda: arrays, image_size=image_size, cache=cache)


def prepare_made(
    name: str,
    recipe: str,
    make_arrays: Callable[[], ArraySet],
    *,
    image_size: int | None = None,
    cache: str | Path | None = None,
) -> PreparedDataset:
    """Prepare arrays that follow from a recipe; they are made only if the cache does not have them."""

    def make(place: Path) -> None:
        arrays = make_arrays()
        _refuse_arrays(name, arrays)
        original = arrays.splits["train"][0].shape[1]
        side = original if image_size is None else image_size
        place.mkdir()
        for split in SPLITS:
            if split in arrays.splits:
                images, labels = arrays.splits[split]
                np.save(place / f"{split}.images.npy", images if side == original else _resized(images, side))
                np.save(place / f"{split}.labels.npy", labels.astype(np.int64))
        finish(
            place,
            name=name,
            image_size=side,
            side=side,
            classes=arrays.classes,
            test_is_val="test" not in arrays.splits,
            origin=arrays.origin,
            notes=() if side == original else (f"resized from {original} to {side} pixels",),
        )

    return entry(made_folder(name, recipe, image_size, cache), make)


def made_folder(name: str, recipe: str, image_size: int | None = None, cache: str | Path | None = None) -> Path:
    """Return the folder of arrays that follow from a recipe; it may not exist yet."""
    resized = (image_size, PIL.__version__) if image_size is not None else None
    return folder_of(name, recipe_key(name, recipe, resized), cache)


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR)) for i in images])


def _refuse_arrays(name: str, arrays: ArraySet) -> None:
    classes = len(arrays.classes)
    if classes < 2:
        raise Refused(f"dataset {name} has {classes} class; at least two are needed")
    if not {"train", "val"} <= arrays.splits.keys() <= set(SPLITS):
        raise Refused(f"dataset {name} has the splits {', '.join(arrays.splits)}; use train, val and optionally test")
    for split, (images, labels) in arrays.splits.items():
        shape = images.shape
        if images.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            needed = "uint8 [n, side, side, 3] is needed"
            raise Refused(f"dataset {name}, {split}: images are {images.dtype} {shape}; {needed}")
        if shape[1] != arrays.splits["train"][0].shape[1]:
            raise Refused(f"dataset {name}: images of {split} and train have different sizes; use one size")
        if len(labels) != len(images) or not np.issubdtype(labels.dtype, np.integer):
            raise Refused(f"dataset {name}, {split}: {len(labels)} labels of {labels.dtype} for {len(images)} images")
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
            raise Refused(f"dataset {name}, {split}: there must be labels, all from 0 to {classes - 1}")
        absent = sorted(set(range(classes)) - set(labels.tolist()))
        if split == "train" and absent:
            raise Refused(f"dataset {name}: no training images of class {arrays.classes[absent[0]]!r}")
    require(breach._replace(where=f"dataset {name}") for breach in image_in_two_splits(arrays.splits))
