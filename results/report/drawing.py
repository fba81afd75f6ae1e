"""The style of all charts: colours for colour-blind readers (Okabe and Ito), each with a shape or a dash.

The blue is lighter for dark pages, and yellow is missing because it is invisible on white. Text and lines have the
colour of the page, so one chart serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from results.report.section import NO_FACETS, Chart, Facets

PALETTE = ("#1B7FC4", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 4))
INK = "currentColor"
BAND = 20  # height of a row in pixels

_WORDS = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_LINES = {"domainColor": INK, "tickColor": INK, "gridColor": INK}
_FAINT = {"gridOpacity": 0.15, "domainOpacity": 0.4, "tickOpacity": 0.4}
CONFIG: dict[str, Any] = {
    "aria": False,  # the page describes each chart and has its numbers as a table
    "mark": {"aria": False},
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"aria": False, **_WORDS, **_LINES, **_FAINT, "labelLimit": 150, "titleLimit": 260},
    "axisY": {"minExtent": 40},
    "axisXQuantitative": {"tickCount": 8},
    "legend": {
        "aria": False,
        **_WORDS,
        "orient": "bottom",
        "labelLimit": 160,
        "columns": 3,
        "symbolOpacity": 1,
        "symbolBaseFillColor": INK,
        "symbolBaseStrokeColor": INK,
        "layout": {"bottom": {"direction": "vertical", "anchor": "start"}},
    },
    "range": {"category": list(PALETTE)},
}


class Look(NamedTuple):
    """Colour, shape and dash of each name, in every chart. The methods return scales for some of the names."""

    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    dashes: Mapping[str, tuple[int, ...]]

    def colour(self, names: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(names), range=[self.colours[name] for name in names])

    def shape(self, names: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(names), range=[self.shapes[name] for name in names])

    def dash(self, names: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(names), range=[list(self.dashes[name]) for name in names])


def look(names: Iterable[str]) -> Look:
    """Assign a colour, a shape and a dash to each name; colours repeat with other shapes."""
    order = list(dict.fromkeys(names))
    return Look(
        {name: PALETTE[n % len(PALETTE)] for n, name in enumerate(order)},
        {name: SHAPES[n % len(SHAPES)] for n, name in enumerate(order)},
        {name: DASHES[n % len(DASHES)] for n, name in enumerate(order)},
    )


HIDDEN = alt.param(name="hidden", value={"model": [], "backend": [], "scenario": [], "run": []})
"""The values that the filters of the page hide. The page hides panels of one model or setting as a whole."""


def kept(*facets: str) -> str:
    """Return the Vega expression for rows that no filter hides."""
    return " && ".join(f"indexof(hidden.{facet}, datum.{facet}) < 0" for facet in facets) or "true"


def finish(
    id: str,
    title: str,
    about: str,
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    facets: Facets = NO_FACETS,
    height: int = 240,
    params: Sequence[Any] = (),
) -> Chart:
    """Make the specification of a chart. `data` are the rows of its named sources, rounded to six digits."""
    # Named sources are filled in here, because Altair validates every row of an inline source.
    spec = chart.properties(width="container", height=height).add_params(HIDDEN, *params).to_dict(validate=False)
    spec.pop("config", None)
    spec["datasets"] = {name: [_short(row) for row in rows] for name, rows in data.items()}
    return Chart(id, title, about, spec, facets)


def height_of(rows: int) -> int:
    """Return the height of this many rows in pixels."""
    return BAND * max(rows, 2)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
        if not (value is None or (isinstance(value, float) and math.isnan(value)))
    }
