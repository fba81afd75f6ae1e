"""Image folders: DIR/train/CLASS/… with val or test, or DIR/CLASS/…, from which validation images are taken."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.datasets.layout.naming import plain_roles
from benchmarks.datasets.layout.read import Layout, read_layout
from benchmarks.datasets.layout.scan import ENDINGS, NO_CLASS, UNUSED, ScannedFile, scan, shown, unreadable
from benchmarks.datasets.layout.splits import listed, text
from benchmarks.datasets.skipping import Skipped, kinds
from harness.errors import Refused

DEFAULT_VALIDATION_SPLIT = 0.2


class ImageFile(NamedTuple):
    """A file to decode: its path, its name in messages and records, its class, size, and the digest of its bytes."""

    path: Path
    name: str
    label: int
    size: int
    sha256: str


class Listing(NamedTuple):
    """The content of an image folder, before decoding. `copies` are names of files with the same content."""

    classes: tuple[str, ...]
    splits: dict[str, list[ImageFile]]
    skipped: list[Skipped]
    notes: list[str]
    copies: list[tuple[str, ...]]

    @property
    def test_is_val(self) -> bool:
        """Whether the validation images are also the test images."""
        return "test" not in self.splits


def list_folder(
    folder: Path,
    validation_split: float | None = None,
    seed: int = 0,
    named_splits: str | None = None,
    test_split: float | None = None,
) -> Listing:
    """Find the images, classes and splits of a folder, and digest every file.

    Without `val`, the share `validation_split` of each class's training images (default 0.2) is used, chosen by the
    seed. With `test_split`, this share of them is taken first and is the test set; `seed` does not change it.
    `named_splits` is the value of `--splits`. Raises `Refused` for a folder that does not exist, is ambiguous,
    has fewer than two classes, a class without images, different classes in two splits, or an image in two splits.
    """
    for name, given in (("validation", validation_split), ("test", test_split)):
        if given is not None and not 0 < given < 1:
            raise Refused(f"--{name}-split {given:g} is not between 0 and 1")
    found = _sorted(folder, named_splits)
    if "val" in found.layout.splits and validation_split is not None:
        raise Refused(f"{shown(folder)} has the folder {found.place('val')}; leave out --validation-split")
    if "val" in found.layout.splits and seed:
        raise Refused(f"{shown(folder)} has the folder {found.place('val')}; leave out --validation-seed")
    if "test" in found.layout.splits and test_split is not None:
        raise Refused(f"{shown(folder)} has the folder {found.place('test')}; leave out --test-split")
    classes = _agreed(folder, found)
    splits = _digested(classes, found)
    copies = _same(splits)
    _refuse_shared(folder, copies)
    notes = [*found.layout.notes, *_alike_note(classes)]
    if test_split is not None:
        splits["train"], splits["test"] = _divide(splits["train"], classes, test_split, "test", "test")
        notes.append(f"test images: {test_split:g} of each class of the training images, always the same")
    if "val" not in splits:
        share = DEFAULT_VALIDATION_SPLIT if validation_split is None else validation_split
        splits["train"], splits["val"] = _divide(splits["train"], classes, share, "val", seed)
        notes.append(f"validation images: {share:g} of each class of the training images, chosen by seed {seed}")
    notes += _copy_note(classes, copies, divided="val" not in found.layout.splits)
    jpeg = sum(file.path.suffix.lower() == ".jpeg" for files in splits.values() for file in files)
    notes += [f"{jpeg} .jpeg used: among torchvision's endings of image files"] if jpeg else []
    if "test" not in splits:
        notes.append("no test images: accuracy is that of the validation images")
    return Listing(classes, splits, found.skipped, notes, [tuple(file.name for _, file in same) for same in copies])


def split_folders(folder: Path, named_splits: str | None = None) -> dict[str, str]:
    """Return the folder of each split as `--splits` names it; empty if all folders are classes."""
    layout = read_layout(folder, scan(folder), named_splits)
    places = {split: next(iter(classes.values()), ())[:-1] for split, classes in layout.splits.items()}
    return {split: text(place) for split, place in places.items() if place}


def inventory(folder: Path, named_splits: str | None = None) -> tuple[list[Skipped], list[tuple[str, ...]]]:
    """Return the unused files and the names of each image in two splits, for a folder that is refused."""
    try:
        found = _sorted(folder, named_splits)
    except Refused:
        return [Skipped(entry.name, "", entry.skipped) for entry in scan(folder).files if entry.skipped], []
    classes = tuple(sorted({name for images in found.images.values() for name in images}))
    copies = _same(_digested(classes, found))
    shared = [same for same in copies if len({split for split, _ in same}) > 1]
    return found.skipped, [tuple(file.name for _, file in same) for same in shared]


class _Sorted(NamedTuple):
    """The files of a folder: images by split and class, and all skipped files."""

    layout: Layout
    images: dict[str, dict[str, list[ScannedFile]]]
    skipped: list[Skipped]
    by_class: dict[tuple[str, str], list[Skipped]]

    def place(self, split: str) -> str:
        """Return the folder of a split for messages."""
        return next((shown(parts[0]) for parts in self.layout.splits[split].values()), split)


def _sorted(folder: Path, named_splits: str | None) -> _Sorted:
    tree = scan(folder)
    layout = read_layout(folder, tree, named_splits)
    if not tree.images():
        raise Refused(f"{shown(folder)} has no images{_instead(entry.skipped for entry in tree.files)}")
    images = {split: {name: list[ScannedFile]() for name in classes} for split, classes in layout.splits.items()}
    owners = {place: (split, name) for split, classes in layout.splits.items() for name, place in classes.items()}
    around = {place[:depth] for place in owners for depth in range(len(place))}
    found = _Sorted(layout, images, [], defaultdict(list))
    for entry in tree.files:
        prefixes = (entry.parts[:depth] for depth in range(1, len(entry.parts)))
        owner = next((owners[parts] for parts in prefixes if parts in owners), None)
        if owner is not None and not entry.skipped:
            images[owner[0]][owner[1]].append(entry)
            continue
        reason = entry.skipped or (NO_CLASS if entry.parts[:-1] in around else UNUSED)
        skipped = Skipped(entry.name, owner[1] if owner else "", reason)
        found.skipped.append(skipped)
        if owner is not None:
            found.by_class[owner].append(skipped)
    return found


def _instead(reasons: Iterable[str]) -> str:
    """Return which files a folder without images has, and what to do."""
    found = list(reasons)
    if not found:
        return "; add some or remove the folder"
    files = "its file is" if len(found) == 1 else f"its {len(found)} files are"
    return f"; {files} skipped ({kinds(found)}); convert or rename them to an ending that is read: {' '.join(ENDINGS)}"


def _agreed(folder: Path, found: _Sorted) -> tuple[str, ...]:
    train = found.images["train"]
    for split, classes in found.images.items():
        if classes.keys() != train.keys():
            extra, absent = sorted(classes.keys() - train.keys()), sorted(train.keys() - classes.keys())
            where = [f"only in {split}: {listed(extra)}"] if extra else []
            where += [f"only in train: {listed(absent)}"] if absent else []
            raise Refused(
                f"{shown(folder)}: train and {split} have different classes ({'; '.join(where)}); make them the same, "
                "or name the folders to use with --splits train=FOLDER,… (none: the folders are the classes)"
            )
        empty = [name for name, images in classes.items() if not images]
        if empty:
            skipped = (one.reason for one in found.by_class[split, empty[0]])
            raise Refused(f"{shown(folder)}: no images in class {empty[0]!r} ({split}){_instead(skipped)}")
    if len(train) < 2:
        has = "no class folders" if not train or plain_roles(train) else f"one class, {next(iter(train))!r}"
        raise Refused(f"{shown(folder)} has {has}; at least two folders of images are needed")
    return tuple(sorted(train))


def _digested(classes: Sequence[str], found: _Sorted) -> dict[str, list[ImageFile]]:
    def one(job: tuple[int, ScannedFile]) -> ImageFile:
        label, entry = job
        with entry.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ImageFile(entry.path, entry.name, label, entry.path.stat().st_size, digest)

    def every(images: Mapping[str, list[ScannedFile]]) -> list[tuple[int, ScannedFile]]:
        return [(label, entry) for label, name in enumerate(classes) for entry in images.get(name, [])]

    with ThreadPoolExecutor() as pool:
        try:
            return {split: list(pool.map(one, every(images))) for split, images in found.images.items()}
        except OSError as error:
            raise unreadable(error) from error


def _same(splits: Mapping[str, Iterable[ImageFile]]) -> list[list[tuple[str, ImageFile]]]:
    """Return groups of files with the same content, each with its split; empty files are not compared."""
    groups: dict[str, list[tuple[str, ImageFile]]] = defaultdict(list)
    for split, files in splits.items():
        for file in files:
            if file.size:
                groups[file.sha256].append((split, file))
    return [same for same in groups.values() if len(same) > 1]


def _refuse_shared(folder: Path, copies: list[list[tuple[str, ImageFile]]]) -> None:
    if shared := [same for same in copies if len({split for split, _ in same}) > 1]:
        numbers = Counter(" and ".join(dict.fromkeys(split for split, _ in same)) for same in shared)
        split, first = shared[0][0]
        other = next(file for place, file in shared[0] if place != split)
        raise Refused(
            f"{shown(folder)}: {len(shared)} image{'s are' if len(shared) > 1 else ' is'} in more than one split "
            f"({', '.join(f'{names}: {count}' for names, count in numbers.items())}), such as {first.name!r} and "
            f"{other.name!r}; keep each image in one split; `show {shlex.quote(shown(folder))}` lists all of them"
        )


def _divide(
    files: list[ImageFile], classes: Sequence[str], share: float, into: str, seed: int | str
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Divide the files into training and the split `into`; all copies of a file stay in training."""
    purpose = {"val": "validation", "test": "testing"}[into]
    copies = Counter(file.sha256 for file in files)
    chosen: set[Path] = set()
    for label, name in enumerate(classes):
        of_class = [file for file in files if file.label == label]
        single = [file for file in of_class if copies[file.sha256] == 1]
        wanted = max(1, round(len(of_class) * share))
        if len(single) < wanted < len(of_class):
            raise Refused(
                f"class {name!r}: {len(of_class) - len(single)} of its {len(of_class)} images have copies, which stay "
                f"in training, so {wanted} for {purpose} cannot be taken from the other {len(single)}; "
                f"remove the copies, or sort the images into train/CLASS and {into}/CLASS"
            )
        if wanted >= len(of_class):
            raise Refused(
                f"class {name!r} has too few images ({len(of_class)}) to use {share:g} of them for {purpose}; "
                f"add some, or sort the images into train/CLASS and {into}/CLASS"
            )
        key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
        order = np.random.Generator(np.random.Philox(key=key)).permutation(len(single))
        chosen.update(single[i].path for i in order[:wanted])
    return [f for f in files if f.path not in chosen], [f for f in files if f.path in chosen]


def _alike_note(classes: Sequence[str]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[name.casefold()].append(name)
    groups = [", ".join(names) for names in alike.values() if len(names) > 1]
    if not groups:
        return []
    return [f"classes whose names differ only in case, which are one folder on Windows and macOS: {'; '.join(groups)}"]


def _copy_note(classes: Sequence[str], copies: list[list[tuple[str, ImageFile]]], *, divided: bool) -> list[str]:
    counted = Counter(file.label for same in copies for _, file in same)
    if not counted:
        return []
    per_class = listed(f"{classes[label]} {count}" for label, count in sorted(counted.items()))
    several = sum(len({file.label for _, file in same}) > 1 for same in copies)
    twice = [f"{several} image{'s are' if several > 1 else ' is'} in more than one class"] if several else []
    kept = ["all copies stay in the training images"] if divided else []
    return ["; ".join([f"{counted.total()} files have the same content as another ({per_class})", *twice, *kept])]
