"""`--json`: a command prints one JSON document of a known type instead of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from benchmarks.choosing.options import OUTPUT, F, GroupedOption


class JsonOption(GroupedOption):
    """The option `--json`. `shape` returns the type of the document, or a tuple of types of which it has one.

    It is a function, because it may import modules that are slow to load.
    """

    def __init__(self, *names: Any, shape: Callable[[], Any], **facts: Any) -> None:
        super().__init__(*names, **facts)
        self._shape = shape

    def shapes(self) -> tuple[Any, ...]:
        """Return the types that the document may have."""
        shape = self._shape()
        return shape if isinstance(shape, tuple) else (shape,)


def json_option(shape: Callable[[], Any], text: str = "print one JSON document instead of text") -> Callable[[F], F]:
    """Declare `--json` of a command; the parameter is `json_`."""
    return click.option("--json", "json_", cls=JsonOption, shape=shape, group=OUTPUT, is_flag=True, help=text)


def case_rows() -> Any:
    """Return the type of a table in JSON: a list of rows, one per case."""
    from results.tables.columns import CaseRow

    return list[CaseRow]  # type: ignore[valid-type]


def print_json(value: Any) -> None:
    """Print one document as UTF-8, in any terminal. Missing figures are null."""
    click.echo(as_json(value), nl=False)


def as_json(value: Any) -> bytes:
    """Return an indented JSON document with a line break at its end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
