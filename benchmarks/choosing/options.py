"""Command-line options made from the fields of `Selection`, so that a suite file and the command line say the same."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import msgspec

from benchmarks.choosing.selection import Selection
from harness.spec import SETTINGS
from results.storage.folder import RESULTS

F = TypeVar("F", bound=Callable[..., Any])

results_option = click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default=True,
    help="Folder that holds what was measured.",
)


def selection_options(*without: str) -> Callable[[F], F]:
    """One option per field of `Selection` but those named. Options not given are None or empty; see `given`."""
    hints = get_type_hints(Selection, include_extras=True)

    def decorate(command: F) -> F:
        for field in reversed(msgspec.structs.fields(Selection)):
            if field.name not in without:
                command = _option(field.name, hints[field.name], on=field.default is True)(command)
        return command

    return decorate


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the selection's options that were really given."""
    return {name: options[name] for name in Selection.__struct_fields__ if options.get(name) not in (None, ())}


def _option(name: str, hint: Any, *, on: bool) -> Callable[[F], F]:
    text, hint = _description(name, hint)
    kind, several = _kind(hint)
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        flags = f"{flag}/--no-{flag.removeprefix('--')}" if on else flag
        return click.option(flags, name, is_flag=True, default=None, help=text)
    if get_origin(kind) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(kind)), multiple=several, help=text)
    return click.option(flag, name, type=kind, multiple=several, help=text)


def _description(name: str, hint: Any) -> tuple[str | None, Any]:
    if get_origin(hint) is Annotated:
        kind, meta = get_args(hint)
        return meta.description, kind
    return next(setting.text for setting in SETTINGS.values() if setting.option == name), hint


def _kind(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    if get_origin(hint) in (types.UnionType, Union):  # Literal[…] | None is the latter
        return next(arg for arg in get_args(hint) if arg is not type(None)), False
    return hint, False
