"""How every chart looks: colours that a colour-blind reader can tell apart, with a shape or dash beside each.

Okabe and Ito's palette, its blue lighter, to be seen on black, and without its yellow, which is not seen on white. Text
and lines take the page's own colour, so that light and dark need no second drawing.
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
BAND = 20
"""Pixels of a row in a chart with rows."""

_WORDS = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_LINES = {"domainColor": INK, "tickColor": INK, "gridColor": INK}
_FAINT = {"gridOpacity": 0.15, "domainOpacity": 0.4, "tickOpacity": 0.4}
CONFIG: dict[str, Any] = {
    "aria": False,  # the page says what is drawn, and gives the numbers as a table
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
    """Colour, shape and dash of each name, the same in every chart of the page."""

    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    dashes: Mapping[str, tuple[int, ...]]

    def colour(self, names: Sequence[str]) -> alt.Scale:
        """A scale of colours for these names."""
        return alt.Scale(domain=list(names), range=[self.colours[name] for name in names])

    def shape(self, names: Sequence[str]) -> alt.Scale:
        """A scale of shapes for these names."""
        return alt.Scale(domain=list(names), range=[self.shapes[name] for name in names])

    def dash(self, names: Sequence[str]) -> alt.Scale:
        """A scale of dashes for these names."""
        return alt.Scale(domain=list(names), range=[list(self.dashes[name]) for name in names])


def look(names: Iterable[str]) -> Look:
    """The look of names; where there are more than colours, a colour comes again with another shape."""
    order = list(dict.fromkeys(names))
    return Look(
        {name: PALETTE[n % len(PALETTE)] for n, name in enumerate(order)},
        {name: SHAPES[n % len(SHAPES)] for n, name in enumerate(order)},
        {name: DASHES[n % len(DASHES)] for n, name in enumerate(order)},
    )


HIDDEN = alt.param(name="hidden", value={"model": [], "backend": [], "scenario": [], "run": []})
"""What the page's filters leave out; the page sets it. A panel of one model or setting is hidden as a whole."""


def kept(*facets: str) -> str:
    """Vega's expression for rows that no filter leaves out."""
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
    """The chart as a specification. `data` are the rows of its named sources; figures keep six digits."""
    # A named source is filled in here, since Altair would go through every row of an inline one.
    spec = chart.properties(width="container", height=height).add_params(HIDDEN, *params).to_dict(validate=False)
    spec.pop("config", None)
    spec["datasets"] = {name: [_short(row) for row in rows] for name, rows in data.items()}
    return Chart(id, title, about, spec, facets)


def height_of(rows: int) -> int:
    """Pixels that so many rows need."""
    return BAND * max(rows, 2)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
        if not (value is None or (isinstance(value, float) and math.isnan(value)))
    }
