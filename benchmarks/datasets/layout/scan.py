"""Every file below a folder, once: an image by its ending, or skipped with the reason.

Endings are torchvision's (`ImageFolder`), so that the same files take part here and in the tutorials; a `.gif` does
not. Links are followed unless they lead back to where they are.
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
HIDDEN = "hidden or of the system"
NO_CLASS = "outside the folder of any class"
UNUSED = "in a folder that is not used"

_SYSTEM = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
           "thumbs.db", "desktop.ini"}  # fmt: skip

Parts = tuple[str, ...]


class ScannedFile(NamedTuple):
    """A file: its path, the parts of its path from the scanned folder on, and why it is skipped (an image: empty)."""

    path: Path
    parts: Parts
    skipped: str = ""

    @property
    def name(self) -> str:
        """The path from the scanned folder on, as text."""
        return shown("/".join(self.parts))


class Tree:
    """What is below a folder: `files` in the order of their parts, and the visible folders, empty ones too."""

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
        """Names of the visible folders in a folder."""
        return self._inside.get(place, [])

    def filled(self, place: Parts) -> list[str]:
        """Those of them with an image in them, at whatever depth."""
        return [name for name in self.folders(place) if self._below[(*place, name)]]

    def images(self, place: Parts = ()) -> int:
        """How many images are in a folder, at whatever depth."""
        return self._below[place]

    def holds_folders(self, place: Parts) -> bool:
        """Whether most images of a folder are in folders of it."""
        return self.images(place) > 2 * self._direct[place]

    def wrapped(self, place: Parts) -> str | None:
        """The only folder of images in a folder, if its images are in folders again."""
        filled = self.filled(place)
        alone = len(filled) == 1 and self.holds_folders(place) and self.holds_folders((*place, filled[0]))
        return filled[0] if alone else None

    def below(self, place: Parts) -> Iterator[Parts]:
        """A folder and every visible one in it, at whatever depth."""
        waiting = [place]
        while waiting:
            here = waiting.pop()
            yield here
            waiting.extend((*here, name) for name in self.folders(here))


def scan(folder: Path) -> Tree:
    """Look at everything below a folder. Raises `Refused` for one that is absent, or for something unreadable in it."""
    if not folder.is_dir():
        raise Refused(f"{shown(folder)} is not a folder; give one with a folder of images per class")
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
    """A folder to look at, what it is inside of (links resolved), and whether it is hidden."""

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
                files.append(
                    ScannedFile(path, parts, HIDDEN if hidden else "a symbolic link that loops or leads nowhere")
                )
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
    return "a symbolic link that loops or leads nowhere" if path.is_symlink() else "neither file nor folder"


def unreadable(error: OSError) -> Refused:
    """The refusal for a file or folder that the system does not give out."""
    why = "" if isinstance(error, PermissionError) else f" ({error.strerror or error})"
    return Refused(f"{shown(error.filename or 'a file')} cannot be read{why}; change its permissions or remove it")


def shown(path: str | Path) -> str:
    """A path as text that every encoder takes; bytes that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
