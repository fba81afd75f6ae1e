"""Datasets by name, and `prepare`, which takes a name or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.datasets.archive import Archive, fetch
from benchmarks.datasets.arrays import ArraySet, prepare_arrays, prepare_made
from benchmarks.datasets.folder import inventory as folder_inventory
from benchmarks.datasets.layout.scan import shown
from benchmarks.datasets.prepare import Progress, prepare_folder
from benchmarks.datasets.writing import PreparedDataset
from harness.data.dataset import DatasetMeta, images_per_class
from harness.errors import Refused, unknown
from harness.plugins import dataset

CLASSES_SAID = 12
"""As many classes as a line of a run names."""


class Generated(NamedTuple):
    """A dataset that is made, not fetched: the function that makes it, and one line for people."""

    make: Callable[[], ArraySet]
    about: str


def _embedded() -> ArraySet:
    from benchmarks.datasets import embedded

    return ArraySet(tuple(c.name for c in embedded.TARGET), _plain(embedded.target()), "generated")


def _embedded_source() -> ArraySet:
    from benchmarks.datasets import embedded

    return ArraySet(tuple(c.name for c in embedded.SOURCE), _plain(embedded.source()), "generated")


def _plain(splits: Any) -> dict[str, Any]:
    return dict(splits)


DATASETS = {
    "embedded": Generated(_embedded, "textured shapes, 8 classes, 64 px: what pretrained networks are fine-tuned on"),
    "embedded-source": Generated(_embedded_source, "40 other classes of the same kind: what they are pretrained on"),
}

ARCHIVES = {
    "hymenoptera": Archive(
        "https://download.pytorch.org/tutorial/hymenoptera_data.zip",
        about="ants and bees, 397 photographs: the set of the transfer-learning tutorials",
    ),
    "hotdog": Archive(
        "http://d2l-data.s3-accelerate.amazonaws.com/hotdog.zip",
        sha1="fba480ffa8aa7e0febbb511d181409f899b9baa5",
        about="hot dogs and other things: the set of the book Dive into Deep Learning",
    ),
}


def described() -> dict[str, str]:
    """Every named dataset with one line on what it is."""
    return {name: entry.about for name, entry in (DATASETS | ARCHIVES).items()}


class PreparedData(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in the cache; `files` is where its source files' names begin, `images` counts each split's classes."""

    folder: str
    files: str | None
    meta: DatasetMeta
    images: dict[str, tuple[int, ...]]

    def sentence(self) -> str:
        """The first classes with their images in each split, and how many classes there are."""
        each = zip(self.meta.classes, *self.images.values(), strict=True)
        counts = [f"{name} {'/'.join(map(str, numbers))}" for name, *numbers in each]
        more = [f"and {len(counts) - CLASSES_SAID} more"] if len(counts) > CLASSES_SAID else []
        said = ", ".join([*counts[:CLASSES_SAID], *more])
        return f"{self.meta.name}: {len(counts)} classes, images of {'/'.join(self.images)}: {said}"


class Inventory(NamedTuple):
    """Files of a folder that are not used, with the reason, and the names of each image that is in two splits."""

    skipped: list[tuple[str, str]]
    shared: list[tuple[str, ...]]


def prepare(
    *,
    data: str,
    image_size: int | None = None,
    validation_split: float | None = None,
    splits: str | None = None,
    seed: int = 0,
    cache: str | None = None,
    plugin: str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> PreparedData:
    """Prepare `--data`: a name, or a folder.

    `splits` says which folders are splits, or `none`. `plugin` is the file or module whose function `data` is. `seed`
    chooses the validation images where the data has none. Image size 224 for folders unless given; arrays have their
    own. Raises `Refused` for bad input and `Declined` where a download is impossible.
    """
    if validation_split is not None and (plugin is not None or data in DATASETS):
        raise Refused(f"dataset {data} has validation images of its own; leave out --validation-split")
    if splits is not None and (plugin is not None or data in DATASETS):
        raise Refused(f"dataset {data} is no image folder; leave out --splits")
    if plugin is not None:
        classes, made_splits = dataset(plugin, data)
        arrays = ArraySet(tuple(classes), made_splits, f"plugin {Path(plugin).name}")
        return _answer(prepare_arrays(data, arrays, image_size=image_size, cache=cache))
    if data in DATASETS:
        made = prepare_made(data, _source_digest(), DATASETS[data].make, image_size=image_size, cache=cache)
        return _answer(made)
    if data in ARCHIVES:
        fetched = fetch(data, ARCHIVES[data], cache)
        source, name, origin = fetched.folder, data, fetched.origin
    elif Path(data).expanduser().is_dir():
        source, origin = Path(data).expanduser(), ""
        name = shown(source.absolute().resolve().name)
    else:
        raise Refused(f"no folder and {unknown('dataset', data, (*DATASETS, *ARCHIVES))}")
    return _answer(
        prepare_folder(
            source,
            name=name,
            image_size=image_size or 224,
            validation_split=validation_split,
            named_splits=splits,
            seed=seed,
            cache=cache,
            origin=origin,
            progress=_every_hundredth(data, report) if report else None,
        )
    )


def inventory(*, data: str, splits: str | None = None) -> Inventory:
    """The files of an image folder that are not used, and its images that are in two splits."""
    skipped, shared = folder_inventory(Path(data).expanduser(), splits)
    return Inventory([(one.name, one.reason) for one in skipped], shared)


def _every_hundredth(data: str, report: Callable[[dict[str, Any]], None]) -> Progress:
    def progress(done: int, of: int) -> None:
        if done % 100 == 0:
            report({"preparing": data, "detail": f"{done} of {of} images"})

    return progress


def _answer(prepared: PreparedDataset) -> PreparedData:
    classes = len(prepared.meta.classes)
    return PreparedData(
        folder=str(prepared.folder),
        files=None if prepared.files is None else str(prepared.files),
        meta=prepared.meta,
        images={split: tuple(images_per_class(prepared.folder, split, classes)) for split in prepared.meta.counts},
    )


def _source_digest() -> str:
    from benchmarks.datasets import embedded

    return hashlib.sha256(Path(embedded.__file__).read_bytes()).hexdigest()
