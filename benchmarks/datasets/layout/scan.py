"""Find every file below a folder: images by their ending, and skipped files with the reason.

The endings are torchvision's (`ImageFolder`), so the same files are used as in the tutorials; `.gif` is not among them.
Links are followed unless they loop.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.errors import Refused

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision.datasets.folder.IMG_EXTENSIONS, in either case."""

ENDING = "ending "
HIDDEN = "hidden or a system file"
BAD_LINK = "a broken or looping symbolic link"
NO_CLASS = "outside the class folders"
UNUSED = "in a folder that is not used"

_SYSTEM = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
           "thumbs.db", "desktop.ini"}  # fmt: skip

Parts = tuple[str, ...]


def refuse_file(path: str | Path) -> None:
    """Raise `Refused` for a path of a file, where a folder is needed."""
    if Path(path).expanduser().is_file():
        remedy = "unpack it and name" if str(path).lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z")) else "name"
        raise Refused(f"{shown(str(path))} is a file; {remedy} the folder that contains a folder of images per class")


class ScannedFile(NamedTuple):
    """A file: its path, the parts of its path from the scanned folder, and why it is skipped (empty for an image)."""

    path: Path
    parts: Parts
    skipped: str = ""

    @property
    def name(self) -> str:
        """Its path from the scanned folder, as text."""
        return shown("/".join(self.parts))


class Tree:
    """The content of a folder: `files` in the order of their parts, and all visible folders."""

    def __init__(self, files: list[ScannedFile], folders: list[Parts]) -> None:
        self.files = sorted(files, key=lambda entry: entry.parts)
        self._inside: dict[Parts, list[str]] = defaultdict(list)
        for parts in sorted(folders):
            self._inside[parts[:-1]].append(parts[-1])
        self._direct: Counter[Parts] = Counter()
        self._below: Counter[Parts] = Counter()
        for entry in self.files:
            if not entry.skipped:
                self._direct[entry.parts[:-1]] += 1
                self._below.update(entry.parts[:depth] for depth in range(len(entry.parts)))

    def folders(self, place: Parts) -> list[str]:
        """Return the names of the visible folders in a folder."""
        return self._inside.get(place, [])

    def filled(self, place: Parts) -> list[str]:
        """Return the names of the visible folders with an image at any depth."""
        return [name for name in self.folders(place) if self._below[(*place, name)]]

    def images(self, place: Parts = ()) -> int:
        """Return the number of images in a folder, at any depth."""
        return self._below[place]

    def holds_folders(self, place: Parts) -> bool:
        """Return whether most images of a folder are in its folders."""
        return self.images(place) > 2 * self._direct[place]

    def wrapped(self, place: Parts) -> str | None:
        """Return the only folder with images in a folder, if its images are in further folders."""
        filled = self.filled(place)
        alone = len(filled) == 1 and self.holds_folders(place) and self.holds_folders((*place, filled[0]))
        return filled[0] if alone else None

    def below(self, place: Parts) -> Iterator[Parts]:
        """Iterate over a folder and all visible folders in it, at any depth."""
        waiting = [place]
        while waiting:
            here = waiting.pop()
            yield here
            waiting.extend((*here, name) for name in self.folders(here))


def scan(folder: Path) -> Tree:
    """Find everything below a folder. Raises `Refused` if it does not exist or something in it cannot be read."""
    if not folder.is_dir():
        raise Refused(f"{shown(folder)} is not a folder; give a folder with one folder of images per class")
    files: list[ScannedFile] = []
    folders: list[Parts] = []
    waiting = [_Place(folder, (), frozenset({folder.resolve(), *folder.resolve().parents}), False)]
    try:
        while waiting:
            place = waiting.pop()
            try:
                _look(place, files, folders, waiting)
            except PermissionError:
                if not place.hidden:
                    raise
                files.append(ScannedFile(place.path, place.parts, HIDDEN))
    except OSError as error:
        raise unreadable(error) from error
    return Tree(files, folders)


class _Place(NamedTuple):
    """A folder to scan, the folders above it (links resolved), and whether it is hidden."""

    path: Path
    parts: Parts
    above: frozenset[Path]
    hidden: bool


def _look(place: _Place, files: list[ScannedFile], folders: list[Parts], waiting: list[_Place]) -> None:
    for path in place.path.iterdir():
        parts = (*place.parts, path.name)
        hidden = place.hidden or path.name.startswith(".") or path.name.lower() in _SYSTEM
        if path.is_dir():
            real = path.resolve()
            if real in place.above:
                files.append(ScannedFile(path, parts, HIDDEN if hidden else BAD_LINK))
            else:
                waiting.append(_Place(path, parts, place.above | {real}, hidden))
                if not hidden:
                    folders.append(parts)
        else:
            files.append(ScannedFile(path, parts, HIDDEN if hidden else _reason(path)))


def _reason(path: Path) -> str:
    if path.is_file():
        ending = path.suffix.lower()
        return "" if ending in ENDINGS else f"{ENDING}{shown(ending) or '(none)'}"
    return BAD_LINK if path.is_symlink() else "neither a file nor a folder"


def unreadable(error: OSError) -> Refused:
    """Return the error for a file or folder that cannot be read."""
    why = "" if isinstance(error, PermissionError) else f" ({error.strerror or error})"
    return Refused(f"{shown(error.filename or 'a file')} cannot be read{why}; change its permissions or remove it")


def shown(path: str | Path) -> str:
    """Return a path as valid text; bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
