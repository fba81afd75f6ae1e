"""Divide the data of `advise`: images to train on, to choose by, and to score the choice on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.datasets import named
from harness.process.ask import ask

TEST_SPLIT = 0.25
"""The share of training images that scores the choice if the folder has only classes."""


class HeldOut(NamedTuple):
    """Options of `run` that divide the data, and whether a seed can choose other validation images."""

    options: dict[str, Any]
    folds: bool


def held_out(data: str, wanted: Mapping[str, Any], catalogue: Catalogue) -> HeldOut:
    """Return options that keep test images out of the choice.

    Test images stay test images. Without them, the folder `val` is the test set, and validation images come from the
    training images; a folder of classes gets a test set from its own images. Data that is not a folder is left as it
    is. `wanted` has the user's options. Raises `Refused` as reading a folder does.
    """
    if data in catalogue.datasets:
        return HeldOut({}, folds=False)
    arguments = {"data": data, "splits": wanted.get("splits")}
    places = ask(named.split_folders, arguments, dict[str, str] | None)  # type: ignore[arg-type]
    if places is None:
        return HeldOut({}, folds=False)
    if "test" in places:
        return HeldOut({}, folds="val" not in places)
    if "val" in places and "test_split" not in wanted:
        return HeldOut({"splits": f"train={places['train']},test={places['val']}"}, folds=True)
    return HeldOut({"test_split": wanted.get("test_split", TEST_SPLIT)}, folds="val" not in places)
