"""Write a prepared dataset to the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets.cache import cache_folder, made_once
from harness.data.dataset import SPLITS, DatasetMeta, content_digest

RECIPE = 2
"""The version of the recipe. Raise it if the same input gives other arrays."""


class PreparedDataset(NamedTuple):
    """The prepared folder, its meta.json, and the folder of its source files, if any."""

    folder: Path
    meta: DatasetMeta
    files: Path | None = None


def folder_of(name: str, key: str, cache: str | Path | None) -> Path:
    """Return the folder of a dataset and a key in the cache; it may not exist yet."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:60]
    return cache_folder(cache) / "datasets" / f"{plain}-{key}"


def entry(folder: Path, make: Callable[[Path], None]) -> PreparedDataset:
    """Return the dataset in a folder of the cache; `make(temporary path)` writes it if it does not exist."""
    made_once(folder, make)
    return PreparedDataset(folder, msgspec.json.decode((folder / "meta.json").read_bytes(), type=DatasetMeta))


def recipe_key(*recipe: Any) -> str:
    """Return sixteen hex digits of everything that the arrays depend on."""
    return hashlib.sha256(msgspec.json.encode((RECIPE, recipe))).hexdigest()[:16]


class Rows:
    """A .npy file to which images are appended; its header has room for the final length."""

    def __init__(self, path: Path, side: int) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._side, self._count = side, 0

    def __enter__(self) -> Rows:
        self._header()
        return self

    def append(self, pixels: NDArray[np.uint8]) -> None:
        self._file.write(pixels.tobytes())
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()

    def _header(self) -> None:
        shape = (self._count, self._side, self._side, 3)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def finish(place: Path, **facts: Any) -> None:
    """Write meta.json; `facts` are all fields of DatasetMeta except the digest and the counts.

    The digest is that of the written files, so it also covers the writing.
    """
    arrays = {
        split: (np.load(place / f"{split}.images.npy", mmap_mode="r"), np.load(place / f"{split}.labels.npy"))
        for split in SPLITS
        if (place / f"{split}.labels.npy").exists()
    }
    counts = {split: len(labels) for split, (_, labels) in arrays.items()}
    meta = DatasetMeta(sha256=content_digest(facts["classes"], arrays), counts=counts, **facts)
    (place / "meta.json").write_bytes(msgspec.json.format(msgspec.json.encode(meta)))
