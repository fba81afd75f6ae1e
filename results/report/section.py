"""The parts of a page as data: sections with paragraphs, charts and tables. Texts have no markup."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Facets = Mapping[str, str]
"""Values for the filters of the page: `backend`, `model`, `scenario`, `setting`, `run`, as far as they apply."""
NO_FACETS: Facets = MappingProxyType({})


class Chart(NamedTuple):
    """One chart: a Vega-Lite specification. `title` names the panel, `about` is the text for screen readers.

    A `wide` chart has the whole width of the page.
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
    """A table. The first `words` columns hold text, the others figures; a `folded` table is closed at first."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    words: int = 1
    folded: bool = True


class Choice(NamedTuple):
    """A control that sets a signal of the charts of a section: its label, and each value with its label."""

    signal: str
    label: str
    options: tuple[tuple[str, str], ...]
    chosen: str


class Section(NamedTuple):
    """One part of the page. `template` is a file for further content, made from `extra`."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    template: str = ""
    extra: Mapping[str, Any] = NO_FACETS
