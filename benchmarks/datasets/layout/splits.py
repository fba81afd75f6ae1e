"""Decide from names and contents which folders are splits."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.datasets.layout.naming import SPLITS, TEST, TRAIN, container, loose_roles, plain_roles
from benchmarks.datasets.layout.scan import Parts, Tree, shown
from harness.errors import Refused, printable

_NAMED = 6
"""The largest number of names that a message lists."""


def find_splits(folder: Path, tree: Tree, top: Parts) -> dict[str, Parts]:
    """Return the folder of each split in `top`; empty if all folders are classes.

    Raises `Refused` if both are possible, and for splits without train or without class folders.
    """
    return _Folders(folder, tree, top).splits()


class _Folders:
    """The folders in `top`, of which some may be splits."""

    def __init__(self, folder: Path, tree: Tree, top: Parts) -> None:
        self._tree, self._top = tree, top
        self._shown = shown(folder / Path(*top))
        self._names = tree.folders(top)
        self._inside = {
            name: set(class_folders(tree, inner(tree, (*top, name))))
            for name in self._names
            if tree.holds_folders((*top, name))
        }

    def splits(self) -> dict[str, Parts]:
        roles = self._roles()
        if not roles:
            self._refuse_the_same_folders()
            return {}
        found = {role: name for role in SPLITS for name in reversed(roles) if roles[name] == role}
        if TRAIN not in found:
            raise Refused(self._without_train(found))
        for name in [name for name in roles if name not in found.values()]:
            both = f"{shown(found[roles[name]])} and {shown(name)}"
            raise Refused(f"{self._shown} has {both}; keep one of them, or choose with {self._option(found)}")
        self._refuse_more(found)
        plain = plain_roles(self._names)
        empty = {role: name for name, role in plain.items() if role not in found}
        folders = empty | found
        return {role: (*self._top, folders[role]) for role in SPLITS if role in folders}

    def _roles(self) -> dict[str, str]:
        """Return the split of each folder that contains folders.

        A name with other words counts only if the folder of another split contains the same folders.
        """
        if len(self._names) == 1:
            return {name: role for name, role in loose_roles(self._names).items() if name in self._inside}
        plain = {name: role for name, role in plain_roles(self._names).items() if name in self._inside}
        loose = {name: role for name, role in loose_roles(self._names).items() if name in self._inside}
        alike = {
            name: role
            for name, role in loose.items()
            if any(role != loose[other] and self._inside[name] == self._inside[other] for other in loose)
        }
        return plain | {name: role for name, role in alike.items() if role not in plain.values()}

    def _refuse_the_same_folders(self) -> None:
        """Raise `Refused` if all folders contain the same folders: they may be splits with other names."""
        filled = self._tree.filled(self._top)
        if len(filled) < 2 or any(name not in self._inside for name in filled):
            return
        same = set.intersection(*(self._inside[name] for name in filled))
        if len(same) > 1 and len(plain_roles(same)) < 2:
            raise Refused(
                f"{self._shown}: {listed(filled)} contain the same folders, {listed(sorted(same))}; if these are the "
                f"classes, give the splits, such as {self._option({TRAIN: filled[0], TEST: filled[1]})}; "
                f"if {listed(filled)} are the classes, use --splits none"
            )

    def _refuse_more(self, found: dict[str, str]) -> None:
        """Raise `Refused` for a split without class folders, and for train as the only split beside other folders."""
        for name, role in plain_roles(self._names).items():
            if role not in found and self._tree.images((*self._top, name)):
                raise Refused(
                    f"{self._shown}: {shown(name)} contains images but no class folders, so their classes are unknown; "
                    f"sort them into class folders, or leave them out with {self._option(found)}"
                )
        train, others = found[TRAIN], [name for name in self._tree.filled(self._top) if name not in found.values()]
        if len(found) == 1 and others:
            raise Refused(
                f"{self._shown}: {shown(train)} can be the training images, with the classes "
                f"{listed(sorted(self._inside[train]))}, or a class beside {listed(others)}; use {self._option(found)} "
                "or --splits none"
            )

    def _without_train(self, found: dict[str, str]) -> str:
        """Return the message for splits without train: it has loose images, or its classes are beside the splits."""
        none = f"--splits none if {listed(self._names)} are the classes"
        evaluated = listed(sorted(found.values()))
        train = next((name for name, role in plain_roles(self._names).items() if role == TRAIN), None)
        if train is not None and self._tree.filled((*self._top, train)):
            return (
                f"{self._shown}: {shown(train)} has as many images outside its class folders as in them; sort them "
                f"into class folders, leave them out with {self._option({TRAIN: train, **found})}, or use {none}"
            )
        if train is not None and self._tree.images((*self._top, train)):
            return (
                f"{self._shown}: {shown(train)} contains images but no class folders, so their classes are unknown; "
                f"sort them into class folders, or use {none}"
            )
        beside = {name for name in self._tree.filled(self._top) if name not in found.values()}
        if beside and all(self._inside[name] <= set(map(class_name, beside)) for name in found.values()):
            places = {TRAIN: self._top, **{role: (*self._top, name) for role, name in found.items()}}
            return (
                f"{self._shown}: {evaluated} can hold images of the classes {listed(sorted(beside))} to "
                f"evaluate, with the folders beside to train on, or be classes; use {option(places)} or --splits none"
            )
        return f"{self._shown} has {evaluated} but no folder train; give it with --splits train=FOLDER,…, or use {none}"

    def _option(self, found: Mapping[str, str]) -> str:
        return option({split: (*self._top, name) for split, name in found.items()})


def option(places: Mapping[str, Parts]) -> str:
    """Return the option `--splits` that names these folders."""
    return f"--splits {shlex.quote(','.join(f'{split}={text(place)}' for split, place in places.items()))}"


def inner(tree: Tree, split: Parts) -> Parts:
    """Return the folder with a split's class folders: `train`, or inside it, such as `train/train`, `test/images`."""
    place = split
    while True:
        only = tree.wrapped(place)
        if only is None or not ((place and only.lower() == place[-1].lower()) or container(only)):
            return place
        place = (*place, only)


def class_folders(tree: Tree, place: Parts) -> dict[str, Parts]:
    """Return the class folders in a folder, by class name. Raises `Refused` for names that look the same."""
    found: dict[str, Parts] = {}
    seen: dict[str, str] = {}
    for name in tree.folders(place):
        other = seen.setdefault(" ".join(class_name(name).split()), name)
        if other != name:
            raise Refused(
                f"two folders have the same name except for spaces or the form of Unicode, {_exactly(other)} and "
                f"{_exactly(name)}; rename one of them"
            )
        found[class_name(name)] = (*place, name)
    return found


def class_name(folder: str) -> str:
    """Return the name of a folder as valid text in composed Unicode (NFC), because macOS writes the other form."""
    return unicodedata.normalize("NFC", shown(folder))


def _exactly(name: str) -> str:
    return ascii(printable(name))


def text(parts: Parts) -> str:
    """Return parts as one path for messages; `.` is the data folder."""
    return class_name("/".join(parts)) or "."


def listed(names: Iterable[str]) -> str:
    """Return the first names, and the number of the others."""
    every = [name if name == name.strip() else repr(name) for name in map(class_name, names)]
    return ", ".join(every[:_NAMED]) + (f" and {len(every) - _NAMED} more" if len(every) > _NAMED else "")
