"""Find the splits and classes of a folder.

Split folders contain the same class folders; class folders contain images. Ambiguous folders are refused; then
`--splits` decides: `train=FOLDER,val=FOLDER,test=FOLDER`, or `none` if all folders are classes. A split's folder may be
inside that of train, such as `train=.,test=test`; train is then everything beside it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.datasets.layout.naming import SPLITS, TRAIN, VAL, container, loose_roles, plain_roles
from benchmarks.datasets.layout.scan import Parts, Tree, shown
from benchmarks.datasets.layout.splits import class_folders, class_name, find_splits, inner, listed, option, text
from harness.errors import Refused, unknown

NONE = "none"
_USUAL = {VAL: (VAL, "valid", "validation")}
_NEAREST = 6


class Layout(NamedTuple):
    """The class folders of each split by name, as parts of the path from the data folder, and notes for the user."""

    splits: dict[str, dict[str, Parts]]
    notes: list[str]


def read_layout(folder: Path, tree: Tree, wanted: str | None = None) -> Layout:
    """Find the splits and classes of a folder; `wanted` is the value of `--splits`.

    Raises `Refused` if the folders are ambiguous, or if splits have no train or no class folders.
    """
    if not tree.folders(()):
        if any("\\" in entry.parts[-1] for entry in tree.files):
            raise Refused(
                f"{shown(folder)} contains no folders, but names with a backslash, such as {tree.files[0].name!r}; "
                "unpack its archive again with a program that makes folders of them, such as 7z x"
            )
        raise Refused(f"{shown(folder)} contains no folders; make one folder of images per class")
    if wanted is not None and wanted != NONE:
        places = _named(folder, tree, wanted)
        return Layout(_split_classes(tree, places), _renamed(places, ()))
    top = _unwrapped(tree, through_splits=wanted == NONE)
    notes = [f"images are read from its folder {text(top)}"] if top else []
    if wanted == NONE:
        return Layout({TRAIN: class_folders(tree, top)}, notes)
    places = find_splits(folder, tree, top)
    if places:
        unused = [shown(name) for name in tree.folders(top) if (*top, name) not in places.values()]
        notes += _renamed(places, top)
        notes += [f"folders that are not used: {', '.join(unused)}"] if unused else []
        splits = _split_classes(tree, places)
    else:
        notes += _class_like_a_split(tree, top)
        splits = {TRAIN: class_folders(tree, top)}
    decides = option(places) if places else f"--splits {NONE}"
    for classes in splits.values():
        _refuse_splits_as_classes(folder, tree, classes)
        _refuse_mixed(folder, tree, classes, decides)
    if not places:
        _refuse_loose(folder, tree, top)
    notes += _groups_note(tree, splits[TRAIN])
    return Layout(splits, notes)


def _named(folder: Path, tree: Tree, wanted: str) -> dict[str, Parts]:
    """Return the folders that `--splits` names."""
    pairs = [part.partition("=") for part in re.split(r",(?=\w+=)", wanted)]
    named = {split: class_name(name.strip("/")) for split, _, name in pairs}
    if len(named) < len(pairs) or not named.keys() <= set(SPLITS) or not all(named.values()):
        raise Refused(f"--splits {wanted}: write none, or train=FOLDER,val=FOLDER,test=FOLDER (val and test optional)")
    if TRAIN not in named:
        raise Refused(f"--splits {wanted}: no train; write train=FOLDER,{wanted}, or none")
    known = {text(parts): parts for parts in tree.below(())}
    found: dict[str, Parts] = {}
    for split in (split for split in SPLITS if split in named):
        name = named[split]
        if name not in known:
            raise Refused(
                f"--splits {wanted}: {shown(folder)} has {unknown('folder', name, list(known)[1:], _NEAREST)}"
            )
        if any(_overlap(tree, known[name], one) for one in found.values()):
            raise Refused(f"--splits {wanted}: {name} is also in another split; give separate folders")
        found[split] = known[name]
    return found


def _overlap(tree: Tree, one: Parts, other: Parts) -> bool:
    """Return whether two splits share images, because one folder is inside the other.

    A folder of classes beside the classes of the other split does not count.
    """
    above, below = sorted((one, other), key=len)
    if below[: len(above)] != above:
        return False
    classes = class_folders(tree, inner(tree, below)).keys()
    return len(below) != len(above) + 1 or not classes & class_folders(tree, above).keys()


def _unwrapped(tree: Tree, *, through_splits: bool) -> Parts:
    """Return the folder inside those that archives put around everything: the only one, with folders of images."""
    place: Parts = ()
    while True:
        only = tree.wrapped(place)
        if only is None or not (len(tree.folders(place)) == 1 or container(only)):
            return place
        if loose_roles([only]) and not through_splits:
            return place
        place = (*place, only)


def _refuse_splits_as_classes(folder: Path, tree: Tree, classes: Mapping[str, Parts]) -> None:
    roles = _split_like([name for name, place in classes.items() if tree.images(place)])
    if roles:
        raise Refused(
            f"{shown(folder)}: {listed(roles)} are named like splits but contain images, not class folders; sort each "
            f"into class folders, or use --splits none if {listed(classes)} are the classes"
        )
    for name, place in classes.items():
        if container(name) and len(tree.filled(place)) > 1:
            raise Refused(
                f"{shown(folder)}: {name} is named like a folder around the classes; use --data "
                f"{shlex.quote(shown(folder / Path(*place)))}, or --splits none if {listed(classes)} are the classes"
            )
        for parts in tree.below(place):
            if inside := _split_like(tree.filled(parts)):
                raise Refused(
                    f"{shown(folder)}: class {name!r} contains folders named like splits, {listed(inside)}; put them "
                    f"around the classes (train/{name}), give --data a folder of splits or of classes, or use --splits "
                    "none to use all images of a class together"
                )


def _refuse_mixed(folder: Path, tree: Tree, classes: Mapping[str, Parts], decides: str) -> None:
    """Raise `Refused` if a folder can be a class or a group of classes beside the others."""
    groups = _groups(tree, classes)
    plain = [name for name, place in classes.items() if tree.images(place) and name not in groups]
    for name, place in classes.items():
        inside = tree.filled(place)
        if plain and name in groups:
            why = (
                f"contains the folders {listed(inside)}, but {listed(plain)} ha{'ve' if len(plain) > 1 else 's'} images"
            )
        elif twins := [child for child in inside if name != class_name(child) in classes]:
            why = f"contains {listed(twins)}, and another class has this name"
        else:
            continue
        raise Refused(
            f"{shown(folder)}: {text(place)} {why}; use {decides} if {name} is one class, or move its folders up "
            "beside it if they are classes"
        )


def _groups(tree: Tree, classes: Mapping[str, Parts]) -> dict[str, list[str]]:
    """Return the folders in each class whose images are in several folders."""
    inside = {name: tree.filled(place) for name, place in classes.items() if tree.holds_folders(place)}
    return {name: folders for name, folders in inside.items() if len(folders) > 1}


def _groups_note(tree: Tree, classes: Mapping[str, Parts]) -> list[str]:
    groups = _groups(tree, classes)
    if not groups:
        return []
    inside = listed(dict.fromkeys(name for folders in groups.values() for name in folders))
    return [f"{listed(groups)} are the classes; the images in their folders ({inside}) are used together"]


def _refuse_loose(folder: Path, tree: Tree, top: Parts) -> None:
    """Raise `Refused` if at least as many images are beside the folders as in them."""
    if len(tree.filled(top)) > 1 and not tree.holds_folders(top):
        loose = tree.images(top) - sum(tree.images((*top, name)) for name in tree.folders(top))
        raise Refused(
            f"{shown(folder / Path(*top))}: {loose} images are outside its folders and {tree.images(top) - loose} in "
            f"them; sort them into class folders, or leave them out with --splits {NONE}"
        )


def _split_like(names: list[str]) -> Collection[str]:
    """Return the names of different splits: at least two without other words, or all names (`trainA`, `testA` …)."""
    plain, loose = plain_roles(names), loose_roles(names)
    if len(set(plain.values())) > 1:
        return plain
    return loose if len(loose) == len(names) and len(set(loose.values())) > 1 else ()


def _renamed(places: Mapping[str, Parts], top: Parts) -> list[str]:
    """Return a note if a split's folder has another name than the split."""
    names = {split: text(place[len(top) :]) for split, place in places.items()}
    if all(name in _USUAL.get(split, (split,)) for split, name in names.items()):
        return []
    return [f"splits: {', '.join(f'{split} is {name}' for split, name in names.items())}"]


def _class_like_a_split(tree: Tree, top: Parts) -> list[str]:
    names = tree.filled(top)
    roles = plain_roles(names) if len(names) > 1 else {}
    return [f"{shown(name)} is a class, because it contains images as the other classes do" for name in roles]


def _split_classes(tree: Tree, places: Mapping[str, Parts]) -> dict[str, dict[str, Parts]]:
    found = {split: class_folders(tree, inner(tree, place)) for split, place in places.items()}
    others = set(places.values())
    return {
        split: {name: place for name, place in classes.items() if place not in others}
        for split, classes in found.items()
    }
