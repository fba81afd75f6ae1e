"""A prepared dataset on disk: memory-mapped uint8 arrays, labels, class names, and a digest of everything.

    FOLDER/meta.json  train.images.npy [n, side, side, 3] uint8  train.labels.npy [n] int64  (val, test likewise)

`side` is at least `image_size`: evaluation takes the centre crop, training augmentations may use the border. Images
were decoded and resized when the dataset was prepared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")


class DatasetMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `meta.json`. `counts` are images per split, `skipped` source files left out with the reason.

    `copies` are groups of source files with the same content.
    """

    name: str
    sha256: str
    image_size: int
    side: int
    classes: tuple[str, ...]
    counts: dict[str, int]
    test_is_val: bool = False
    origin: str = ""
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, ...], ...] = ()


class Split(NamedTuple):
    """One split. `ids` are the indices of its samples in `images` and in `files`, the source files."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    files: tuple[str, ...] | None = None


class Dataset(NamedTuple):
    """An open dataset. Images are memory-mapped and read on access."""

    meta: DatasetMeta
    splits: dict[str, Split]


def content_digest(classes: tuple[str, ...], arrays: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> str:
    """Return a SHA-256 over class names and, per split in the order of SPLITS, shape, labels and pixels."""
    digest = hashlib.sha256(msgspec.json.encode(classes))
    for split in SPLITS:
        if split in arrays:
            images, labels = arrays[split]
            digest.update(f"{split}{images.shape}".encode())
            digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
            for start in range(0, len(images), 256):
                digest.update(np.ascontiguousarray(images[start : start + 256]).tobytes())
    return digest.hexdigest()


def images_per_class(folder: str | Path, split: str, classes: int) -> list[int]:
    """Return the number of images of each class in a split of a prepared dataset."""
    return [int(count) for count in np.bincount(np.load(Path(folder) / f"{split}.labels.npy"), minlength=classes)]


def open_dataset(folder: str | Path, limit: int | None = None, files: str | None = None) -> Dataset:
    """Open a prepared dataset; `limit` keeps that many images per split, spread evenly over the split.

    `files` is the root folder of the source files; without it, a split has no `files`.
    """
    folder = Path(folder)
    meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=DatasetMeta)
    splits = {}
    for name in SPLITS:
        source = "val" if name == "test" and meta.test_is_val else name
        if meta.counts.get(source):
            splits[name] = _open_split(folder, source, limit, files)
    return Dataset(meta, splits)


def _open_split(folder: Path, name: str, limit: int | None, files_root: str | None) -> Split:
    # A plain array view: indexing a np.memmap creates another np.memmap, which is slow.
    images = np.asarray(np.load(folder / f"{name}.images.npy", mmap_mode="r"))
    labels = np.load(folder / f"{name}.labels.npy")
    ids = np.arange(len(labels), dtype=np.int64)
    if limit is not None and limit < len(ids):
        ids = np.linspace(0, len(ids) - 1, limit).round().astype(np.int64)
    listing = folder / f"{name}.files.json"
    if files_root is None or not listing.exists():
        return Split(images, labels[ids], ids)
    names = msgspec.json.decode(listing.read_bytes(), type=list[str])
    return Split(images, labels[ids], ids, tuple(str(Path(files_root) / name) for name in names))
