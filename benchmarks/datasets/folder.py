"""An image folder as people have it: DIR/train/CLASS/… with val or test, or DIR/CLASS/… to be divided.

Endings are torchvision's (`ImageFolder`), so that the same files take part here and in the tutorials; a `.gif` does
not. Hidden files are ignored. Links are followed unless they lead back to where they are.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.errors import Refused

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision.datasets.folder.IMG_EXTENSIONS, in either case."""
DEFAULT_VALIDATION_SPLIT = 0.2

_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class ImageFile(NamedTuple):
    """A file to decode: where, its name for people and records, its class, size, and digest of its bytes."""

    path: Path
    name: str
    label: int
    size: int
    sha256: str


class Listing(NamedTuple):
    """What is in an image folder, before anything is decoded."""

    classes: tuple[str, ...]
    splits: dict[str, list[ImageFile]]
    skipped: list[tuple[str, str]]
    notes: list[str]

    @property
    def test_is_val(self) -> bool:
        """Whether there are no test images of their own."""
        return "test" not in self.splits


def list_folder(folder: Path, validation_split: float | None = None, seed: int = 0) -> Listing:
    """Find the images, classes and splits of a folder, and digest every file.

    Without `val`, a share `validation_split` of each class's training images (default 0.2) becomes it, chosen by the
    seed. Raises `Refused` for a folder that is none, has fewer than two classes, a class without images, other classes
    in another split, or the same file in two splits.
    """
    if validation_split is not None and not 0 < validation_split < 1:
        raise Refused(f"--validation-split {validation_split:g} is not between 0 and 1")
    skipped: list[tuple[str, str]] = []
    try:
        folders, notes = _split_folders(folder)
        if "val" in folders and validation_split is not None:
            raise Refused(f"{folder} has a folder {folders['val'].name} of its own; leave out --validation-split")
        found = {split: _classes(folder, place, skipped) for split, place in folders.items()}
        classes = _agreed(folder, found)
        splits = {split: _digested(folder, classes, paths) for split, paths in found.items()}
    except PermissionError as error:
        raise Refused(f"{shown(error.filename)} cannot be read; change its permissions or remove it") from error
    if "val" not in splits:
        share = DEFAULT_VALIDATION_SPLIT if validation_split is None else validation_split
        splits["train"], splits["val"] = _divide(splits["train"], classes, share, seed, notes)
    _refuse_shared(splits)
    notes += _ending_notes(skipped, splits)
    if "test" not in splits:
        notes.append("no test images of their own: accuracy is that of the validation images")
    return Listing(classes, splits, skipped, notes)


def shown(path: str | Path) -> str:
    """A path as text that every encoder takes; bytes that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _split_folders(folder: Path) -> tuple[dict[str, Path], list[str]]:
    if not folder.is_dir():
        raise Refused(f"{shown(folder)} is not a folder; give one with a folder of images per class")
    inside = {p.name: p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir()}
    if not inside:
        raise Refused(f"{shown(folder)} has no folders in it; it needs one folder of images per class")
    found: dict[str, Path] = {}
    for split, names in _SPLIT_FOLDERS.items():
        present = [inside[name] for name in names if name in inside]
        if len(present) > 1:
            raise Refused(f"{shown(folder)} has {present[0].name} and {present[1].name}; keep one of them")
        if present:
            found[split] = present[0]
    if not found:
        return {"train": folder}, []
    if "train" not in found:
        raise Refused(f"{shown(folder)} has {', '.join(sorted(found))} but no folder train")
    unused = sorted(shown(name) for name, path in inside.items() if path not in found.values())
    return found, [f"not used, beside train: {', '.join(unused)}"] if unused else []


def _classes(folder: Path, place: Path, skipped: list[tuple[str, str]]) -> dict[str, list[Path]]:
    above = {place.resolve(), *place.resolve().parents}
    classes: dict[str, list[Path]] = {}
    for path in _entries(folder, place, above, skipped):
        if path.is_dir():
            classes[shown(path.name)] = list(_walk(folder, path, above | {path.resolve()}, skipped))
        else:
            skipped.append((shown(path.relative_to(folder)), "outside the folder of any class"))
    return classes


def _walk(folder: Path, place: Path, above: set[Path], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    for path in _entries(folder, place, above, skipped):
        if path.is_dir():
            yield from _walk(folder, path, above | {path.resolve()}, skipped)
        elif path.suffix.lower() in ENDINGS:
            yield path
        else:
            ending = shown(path.suffix) or "(none)"
            skipped.append((shown(path.relative_to(folder)), f"its ending {ending} is not one of an image file"))


def _entries(folder: Path, place: Path, above: set[Path], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    for path in sorted(place.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() or (path.is_dir() and path.resolve() not in above):
            yield path
        else:
            reason = "a symbolic link that loops or leads nowhere" if path.is_symlink() else "neither file nor folder"
            skipped.append((shown(path.relative_to(folder)), reason))


def _agreed(folder: Path, found: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
    train = found["train"]
    for split, classes in found.items():
        if classes.keys() != train.keys():
            extra, absent = sorted(classes.keys() - train.keys()), sorted(train.keys() - classes.keys())
            where = [f"only in {split}: {', '.join(extra)}"] if extra else []
            where += [f"only in train: {', '.join(absent)}"] if absent else []
            raise Refused(f"{shown(folder)}: train and {split} have different classes ({'; '.join(where)})")
        empty = [name for name, paths in classes.items() if not paths]
        if empty:
            raise Refused(f"{shown(folder)}: no images in class {empty[0]!r} ({split}); add some or remove the folder")
    if len(train) < 2:
        has = f"one class, {next(iter(train))!r}" if train else "no class folders"
        raise Refused(f"{shown(folder)} has {has}; at least two folders of images are needed")
    return tuple(sorted(train))


def _digested(folder: Path, classes: Sequence[str], found: dict[str, list[Path]]) -> list[ImageFile]:
    def one(job: tuple[int, Path]) -> ImageFile:
        label, path = job
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ImageFile(path, shown(path.relative_to(folder)), label, path.stat().st_size, digest)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, [(label, path) for label, name in enumerate(classes) for path in found[name]]))


def _divide(
    files: list[ImageFile], classes: Sequence[str], share: float, seed: int, notes: list[str]
) -> tuple[list[ImageFile], list[ImageFile]]:
    """A file that occurs twice stays on the training side, so that no image is on both."""
    copies = Counter(file.sha256 for file in files)
    chosen: set[Path] = set()
    for label, name in enumerate(classes):
        mine = [file for file in files if file.label == label]
        single = [file for file in mine if copies[file.sha256] == 1]
        wanted = max(1, round(len(mine) * share))
        if wanted > len(single) or wanted >= len(mine):
            raise Refused(f"class {name!r} has too few images ({len(mine)}) to take {share:g} of them for validation")
        key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
        order = np.random.Generator(np.random.Philox(key=key)).permutation(len(single))
        chosen.update(single[i].path for i in order[:wanted])
    notes.append(f"validation images: {share:g} of each class of the training images, chosen by seed {seed}")
    repeated = sum(count for count in copies.values() if count > 1)
    if repeated:
        notes.append(f"{repeated} files have a copy among the others; they stay in the training images")
    return [f for f in files if f.path not in chosen], [f for f in files if f.path in chosen]


def _refuse_shared(splits: dict[str, list[ImageFile]]) -> None:
    owner: dict[str, tuple[str, str]] = {}
    for split, files in splits.items():
        for file in files:
            other, name = owner.setdefault(file.sha256, (split, file.name))
            if other != split and file.size:
                raise Refused(f"the same image is in {other} and in {split}: {name!r} and {file.name!r}; remove one")


def _ending_notes(skipped: list[tuple[str, str]], splits: dict[str, list[ImageFile]]) -> list[str]:
    notes = []
    gif = sum(Path(name).suffix.lower() == ".gif" for name, _ in skipped)
    jpeg = sum(file.path.suffix.lower() == ".jpeg" for files in splits.values() for file in files)
    if gif:
        notes.append(f"{gif} .gif skipped: not among torchvision's endings of image files ({' '.join(ENDINGS)})")
    if jpeg:
        notes.append(f"{jpeg} .jpeg taken: among torchvision's endings of image files")
    return notes
