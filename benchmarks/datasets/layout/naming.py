"""The splits that names of folders mean, such as `training_set`, `Test`, `val2017`, `seg_train`, `01-validation`."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = TRAIN, VAL, TEST = "train", "val", "test"

_WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "development"), VAL),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "evaluate", "holdout"), TEST),
}
_SECOND = ("eval", "evaluation", "evaluate", "holdout")
"""Words for the test split, or for validation images if another folder is the test split."""
_CONTAINER = {"image", "images", "img", "imgs", "photo", "photos", "pic", "pics", "picture", "pictures",
              "data", "dataset", "datasets"}  # fmt: skip
"""Words for a folder around classes or splits."""
_FILLER = _CONTAINER | {
    "set", "sets", "split", "splits", "subset", "partition", "part", "folder", "folders", "dir", "directory",
    "sample", "samples", "example", "examples", "mini", "small", "full", "final", "new", "all", "the", "of", "for",
    "class", "classes", "category", "categories", "labeled", "labelled", "raw", "resized", "cropped",
    "jpg", "jpeg", "png", "v", "version", "phase", "input", "inputs", "file", "files",
}  # fmt: skip
"""Words without meaning beside the name of a split."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")
_HOLDOUT = re.compile(r"(hold|held)[\W_]*out", re.IGNORECASE)


def plain_roles(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each name that has no other meaning, ignoring words that all names with a split share.

    >>> plain_roles(["seg_train", "seg_test", "seg_pred"])
    {'seg_train': 'train', 'seg_test': 'test'}
    >>> plain_roles(["bus", "freight train", "Test1", "train-dev"])
    {'Test1': 'test'}
    """
    names = list(names)
    roles = loose_roles(names)
    shared = frozenset.intersection(*(_words(name) for name in roles)) if len(set(roles.values())) > 1 else frozenset()
    return {name: role for name, role in roles.items() if not _others(name) - shared}


def loose_roles(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each name that contains a word for one split, also beside other words.

    >>> loose_roles(["trainA", "model train", "trains", "heldOut", "validation_v2"])
    {'trainA': 'train', 'model train': 'train', 'heldOut': 'test', 'validation_v2': 'val'}
    """
    found = {name: _roles(name) for name in names}
    roles = {name: next(iter(meant)) for name, meant in found.items() if len(meant) == 1}
    certain = {roles[name] for name in roles if not _second(name)}
    if TEST in certain and VAL not in certain:
        roles |= {name: VAL for name in roles if _second(name)}
    return roles


def container(name: str) -> bool:
    """Return whether a name means a folder around classes or splits: `images`, `data`, `train_images`, `train`.

    >>> [name for name in ("images", "Training Data", "test", "bus", "0") if container(name)]
    ['images', 'Training Data', 'test']
    """
    words = _words(name)
    return bool(words) and all(word in _CONTAINER or _stem(word) in _WORDS for word in words)


def _roles(name: str) -> set[str]:
    return {role for word in _words(name) if (role := _WORDS.get(_stem(word)))}


def _others(name: str) -> frozenset[str]:
    return frozenset(word for word in _words(name) if _stem(word) not in _WORDS and word not in _FILLER)


def _second(name: str) -> bool:
    return any(_stem(word) in _SECOND for word in _words(name))


def _words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(_HOLDOUT.sub(" holdout ", name)))


def _stem(word: str) -> str:
    """Return the word for a split in a compound such as `trainset`, `testdata`, `minival`; else the word itself."""
    if word in _WORDS:
        return word
    stems = (stem for stem in _WORDS if word.startswith(stem) and word.removeprefix(stem) in _FILLER)
    return next(stems, None) or next(
        (stem for stem in _WORDS if word.endswith(stem) and word.removesuffix(stem) in _FILLER), word
    )
