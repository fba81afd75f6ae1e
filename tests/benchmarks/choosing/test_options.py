"""Options of a selection, and the words that give them a value."""

from __future__ import annotations

from typing import Any, get_type_hints

import click
import msgspec
import pytest

from benchmarks.choosing.options import given, selection_options, words
from benchmarks.choosing.selection import Selection

SWITCHES = [name for name, hint in get_type_hints(Selection).items() if hint is bool]


@click.command
@selection_options()
def command(**options: Any) -> Selection:
    """Return the selection."""
    return Selection(**given(options))


def chosen(*arguments: str) -> Selection:
    found = command.main(list(arguments), standalone_mode=False)
    assert isinstance(found, Selection)
    return found


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("on", [True, False])
def test_the_words_of_a_switch_turn_it_on_and_off(name: str, on: bool) -> None:
    assert getattr(chosen(*words(name, on)), name) is on
    assert chosen(*words(name, not on), *words(name, on)) == chosen(*words(name, on))


def test_there_are_switches_of_either_default() -> None:
    defaults = {field.default for field in msgspec.structs.fields(Selection) if field.name in SWITCHES}
    assert defaults == {True, False}


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", ("resnet18", "alexnet")), ("precision", ("bf16",)), ("features", ("kept",)), ("seeds", 3),
     ("validation_split", 0.2), ("image_size", (64, 128)), ("input_scaling", ("resnet18=imagenet",))],
)  # fmt: skip
def test_the_words_of_other_fields_are_read_back(name: str, value: object) -> None:
    assert getattr(chosen(*words(name, value)), name) == value
