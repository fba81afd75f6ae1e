"""Named datasets, and `prepare`, which takes a name or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.datasets import embedded
from benchmarks.datasets.archive import Archive, fetch
from benchmarks.datasets.arrays import ArraySet, made_folder, prepare_arrays, prepare_made
from benchmarks.datasets.folder import inventory as folder_inventory
from benchmarks.datasets.folder import split_folders as folders_of
from benchmarks.datasets.layout.scan import refuse_file, shown
from benchmarks.datasets.prepare import Progress, prepare_folder
from benchmarks.datasets.writing import PreparedDataset
from harness.data.dataset import DatasetMeta, images_per_class
from harness.errors import Refused, unknown
from harness.plugins import dataset

CLASSES_SHOWN = 12
"""The largest number of classes in the line about a dataset."""


class Generated(NamedTuple):
    """A generated dataset: the function that makes it, and one line about it."""

    make: Callable[[], ArraySet]
    about: str


def _generated(recipes: Sequence[embedded.ClassRecipe], make: Callable[[], Any], about: str) -> Generated:
    return Generated(lambda: ArraySet(tuple(recipe.name for recipe in recipes), {**make()}, "generated"), about)


DATASETS = {
    "embedded": _generated(embedded.TARGET, embedded.target, "textured shapes, 8 classes, 64 px, to fine-tune on"),
    "embedded-source": _generated(embedded.SOURCE, embedded.source, "40 other classes of such shapes, to pretrain on"),
}

ARCHIVES = {
    "hymenoptera": Archive(
        "https://download.pytorch.org/tutorial/hymenoptera_data.zip",
        about="ants and bees, 397 photographs, used by the transfer-learning tutorials",
    ),
    "hotdog": Archive(
        "http://d2l-data.s3-accelerate.amazonaws.com/hotdog.zip",
        sha1="fba480ffa8aa7e0febbb511d181409f899b9baa5",
        about="hot dogs and other things, used by the book Dive into Deep Learning",
    ),
}


def described() -> dict[str, str]:
    """Return every named dataset with one line about it."""
    return {name: entry.about for name, entry in (DATASETS | ARCHIVES).items()}


class PreparedData(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in the cache; `files` is the folder of its source files, `images` counts them per split and class."""

    folder: str
    files: str | None
    meta: DatasetMeta
    images: dict[str, tuple[int, ...]]

    def sentence(self) -> str:
        """Return the number of classes, and the first classes with their numbers of images in each split."""
        each = zip(self.meta.classes, *self.images.values(), strict=True)
        counts = [f"{name} {'/'.join(map(str, numbers))}" for name, *numbers in each]
        more = [f"and {len(counts) - CLASSES_SHOWN} more"] if len(counts) > CLASSES_SHOWN else []
        listed = ", ".join([*counts[:CLASSES_SHOWN], *more])
        return f"{self.meta.name}: {len(counts)} classes, images of {'/'.join(self.images)}: {listed}"


class Inventory(NamedTuple):
    """The unused files of a folder with the reasons, and the names of each image that is in two splits."""

    skipped: list[tuple[str, str]]
    shared: list[tuple[str, ...]]


def prepare(
    *,
    data: str,
    image_size: int | None = None,
    validation_split: float | None = None,
    splits: str | None = None,
    seed: int = 0,
    test_split: float | None = None,
    cache: str | None = None,
    plugin: str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> PreparedData:
    """Prepare the data of `--data`: a name or a folder.

    `splits` is the value of `--splits`. `plugin` is the file or module that has the function `data`. `seed` chooses the
    validation images if the data has none, and `test_split` is the share of training images to test on. The default
    image size is 224 for folders, and that of the arrays otherwise.
    Raises `Refused` for bad input and `Declined` if a download is impossible.
    """
    if plugin is not None or data in DATASETS:
        if validation_split is not None:
            raise Refused(f"dataset {data} has validation images; leave out --validation-split")
        given = {"splits": splits, "test-split": test_split, "validation-seed": seed or None}
        for name in (name for name, value in given.items() if value is not None):
            raise Refused(f"dataset {data} is not an image folder; leave out --{name}")
    if plugin is not None:
        classes, made_splits = dataset(plugin, data)
        arrays = ArraySet(tuple(classes), made_splits, f"plugin {Path(plugin).name}")
        return _answer(prepare_arrays(data, arrays, image_size=image_size, cache=cache))
    if data in DATASETS:
        return _answer(prepare_made(data, _recipe(), DATASETS[data].make, image_size=image_size, cache=cache))
    if data in ARCHIVES:
        fetched = fetch(data, ARCHIVES[data], cache)
        source, name, origin = fetched.folder, data, fetched.origin
    elif Path(data).expanduser().is_dir():
        source, origin = Path(data).expanduser(), ""
        name = shown(source.absolute().resolve().name)
    else:
        refuse_file(data)
        raise Refused(f"no folder and {unknown('dataset', data, (*DATASETS, *ARCHIVES))}")
    return _answer(
        prepare_folder(
            source,
            name=name,
            image_size=image_size or 224,
            validation_split=validation_split,
            named_splits=splits,
            seed=seed,
            test_split=test_split,
            cache=cache,
            origin=origin,
            progress=_every_hundredth(data, report) if report else None,
        )
    )


def is_ready(data: str, image_size: int, plugin: str | None) -> bool:
    """Return whether the cache has this generated dataset, so that `prepare` takes milliseconds."""
    return plugin is None and data in DATASETS and made_folder(data, _recipe(), image_size).exists()


def _recipe() -> str:
    return hashlib.sha256(Path(embedded.__file__).read_bytes()).hexdigest()


def split_folders(*, data: str, splits: str | None = None) -> dict[str, str] | None:
    """Return the folder of each split of `--data`, empty if all folders are classes; None for data without files."""
    if data in ARCHIVES:
        return folders_of(fetch(data, ARCHIVES[data], None).folder, splits)
    folder = Path(data).expanduser()
    return folders_of(folder, splits) if data not in DATASETS and folder.is_dir() else None


def inventory(*, data: str, splits: str | None = None) -> Inventory:
    """Return the unused files of an image folder, and its images that are in two splits."""
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
