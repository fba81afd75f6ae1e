"""The parts of a page as data: sections of paragraphs, charts and tables. Text is text here; markup comes last."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Facets = Mapping[str, str]
"""What a chart or a row is filtered by: `backend`, `model`, `scenario`, `setting`, `run`; only those that hold."""
NO_FACETS: Facets = MappingProxyType({})


class Chart(NamedTuple):
    """One chart: a Vega-Lite specification. `about` says in a sentence what is drawn, for who does not see it.

    `title` names the panel; a `wide` one has a line to itself.
    """

    id: str
    title: str
    about: str
    spec: dict[str, Any]
    facets: Facets = NO_FACETS
    wide: bool = False


class GridRow(NamedTuple):
    """One row of a table."""

    cells: tuple[str, ...]
    facets: Facets = NO_FACETS


class Grid(NamedTuple):
    """A table. The first `words` columns hold words, the others figures; `folded` ones are opened when asked for."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    words: int = 1
    folded: bool = True


class Choice(NamedTuple):
    """A control that sets a signal of the section's charts: what it is called, and each value with its words."""

    signal: str
    label: str
    options: tuple[tuple[str, str], ...]
    chosen: str


class Section(NamedTuple):
    """One part of the page. `template` is a file for what charts and tables cannot say, made of `extra`."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    template: str = ""
    extra: Mapping[str, Any] = NO_FACETS
