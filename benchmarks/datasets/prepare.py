"""Decode an image folder once into the cache.

The name of the cache entry has a digest of the files and of the recipe, so a change of either makes a new entry. Images
are streamed: a large folder needs no more memory than a small one.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import PIL

from benchmarks.datasets.folder import ImageFile, Listing, list_folder
from benchmarks.datasets.skipping import Skipped, skipped_note
from benchmarks.datasets.writing import PreparedDataset, Rows, entry, finish, folder_of, recipe_key
from harness.data.decode import Decoded, Several, Unreadable, decode
from harness.errors import Refused

Progress = Callable[[int, int], None]


def prepare_folder(
    source: Path,
    *,
    name: str,
    image_size: int,
    validation_split: float | None = None,
    named_splits: str | None = None,
    seed: int = 0,
    test_split: float | None = None,
    cache: str | Path | None = None,
    origin: str = "",
    progress: Progress | None = None,
) -> PreparedDataset:
    """Decode an image folder to squares of 8/7 of the image size (256 for 224). `progress` gets (done, total).

    Files that cannot be decoded are skipped, counted and listed with the reason. Raises `Refused` as `list_folder`
    does, and if more than half of a class is unreadable.
    """
    listing = list_folder(source, validation_split, seed, named_splits, test_split)
    side = round(image_size * 8 / 7)
    files = [(split, f.name, f.label, f.size, f.sha256) for split in listing.splits for f in listing.splits[split]]
    key = recipe_key(
        *(name, side, image_size, origin, PIL.__version__, listing.classes),
        *(listing.skipped, listing.notes, listing.copies, files),
    )

    def make(place: Path) -> None:
        place.mkdir()
        written = _decode_all(place, listing, side, progress)
        finish(
            place,
            name=name,
            image_size=image_size,
            side=side,
            classes=listing.classes,
            test_is_val=listing.test_is_val,
            origin=origin or f"image folder {name}",
            notes=(*listing.notes, *written.notes),
            skipped=tuple((one.name, one.reason) for one in (*listing.skipped, *written.skipped)),
            copies=tuple(listing.copies),
        )

    return entry(folder_of(name, key, cache), make)._replace(files=source.absolute())


class _Written(NamedTuple):
    skipped: list[Skipped]
    notes: list[str]


def _decode_all(place: Path, listing: Listing, side: int, progress: Progress | None) -> _Written:
    total, done = sum(map(len, listing.splits.values())), 0
    several: Counter[Several] = Counter()
    skipped: list[Skipped] = []
    given: Counter[int] = Counter()
    lost: dict[int, list[str]] = defaultdict(list)
    for split, files in listing.splits.items():
        labels, names = [], []
        with Rows(place / f"{split}.images.npy", side) as rows:
            for file, result in _decoded(files, side):
                given[file.label] += 1
                if isinstance(result, Unreadable):
                    skipped.append(Skipped(file.name, listing.classes[file.label], str(result), "unreadable"))
                    lost[file.label].append(f"{file.name!r} ({result})")
                else:
                    rows.append(result.pixels)
                    labels.append(file.label)
                    names.append(file.name)
                    several[result.first_of] += 1
                done += 1
                if progress is not None:
                    progress(done, total)
        for label in sorted(set(range(len(listing.classes))) - set(labels)):
            name, examples = listing.classes[label], ", ".join(lost[label][:3])
            raise Refused(f"class {name!r} has no readable image in {split}; repair or replace {examples}")
        np.save(place / f"{split}.labels.npy", np.array(labels, dtype=np.int64))
        (place / f"{split}.files.json").write_bytes(msgspec.json.encode(names))
    for label, unreadable in lost.items():
        if len(unreadable) * 2 > given[label]:
            raise Refused(
                f"{len(unreadable)} of {given[label]} images of class {listing.classes[label]!r} are unreadable, "
                f"such as {unreadable[0]}; repair or remove them"
            )
    notes = skipped_note([*listing.skipped, *skipped], listing.classes)
    titles: dict[Several, str] = {
        "frames": "animated images: only the first frame of each is used",
        "pages": "TIFF files of several pages: only the first page of each is used",
    }
    notes += [f"{several[one]} {title}" for one, title in titles.items() if several[one]]
    return _Written(skipped, notes)


def _decoded(files: Sequence[ImageFile], side: int) -> Iterator[tuple[ImageFile, Decoded | Unreadable]]:
    """Decode in order, a few files ahead, in threads: Pillow releases Python's lock while it decodes."""

    def one(file: ImageFile) -> Decoded | Unreadable:
        try:
            return decode(file.path, side)
        except Unreadable as reason:
            return reason

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        ahead: deque[tuple[ImageFile, Future[Decoded | Unreadable]]] = deque()
        for file in files:
            ahead.append((file, pool.submit(one, file)))
            if len(ahead) > 4 * cores:
                first, result = ahead.popleft()
                yield first, result.result()
        for first, result in ahead:
            yield first, result.result()
