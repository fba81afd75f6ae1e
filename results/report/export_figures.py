"""The charts of a page as PNG and SVG, for papers: one file of each kind per chart, named for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from harness.errors import Refused
from results.report.drawing import CONFIG, INK
from results.report.section import Chart, Section

WIDTH = 640
"""Pixels; in the page a chart is as wide as its place."""
SCALE = 2
BLACK = "#1b1b1f"


def export_figures(sections: Sequence[Section], folder: Path, names: Collection[str] = ()) -> list[Path]:
    """Write the charts of these names, or all, with the choices that the page begins with, on white.

    Raises `Refused` for a folder that cannot be written and for a name that no chart has.
    """
    drawn = [(chart, own) for own in sections for chart in own.charts]
    unknown = set(names) - {chart.id for chart, _ in drawn}
    if unknown:
        known = ", ".join(chart.id for chart, _ in drawn)
        raise Refused(f"no chart is called {', '.join(sorted(unknown))}; there are {known or 'none'}")
    config = {**_on_white(CONFIG), "background": "white"}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart, section in (one for one in drawn if not names or one[0].id in names):
            spec = _fixed(chart, section)
            for ending, content in (
                ("svg", vl_convert.vegalite_to_svg(spec, config=config).encode()),
                ("png", vl_convert.vegalite_to_png(spec, config=config, scale=SCALE)),
            ):
                path = folder / f"{chart.id}.{ending}"
                path.write_bytes(content)
                written.append(path)
    except OSError as error:
        raise Refused(f"--figures {folder} cannot be written ({error.strerror})") from error
    return written


def _fixed(chart: Chart, section: Section) -> dict[str, Any]:
    asked = {param["name"] for param in chart.spec["params"]}
    said = [
        f"{choice.label}: {words}"
        for choice in section.choices
        for value, words in choice.options
        if value == choice.chosen and choice.signal in asked
    ]
    return {**_on_white(chart.spec), "width": WIDTH, "title": {"text": section.title, "subtitle": [chart.title, *said]}}


def _on_white(value: Any) -> Any:
    """The page's colour of text becomes black; a file has no page around it."""
    if isinstance(value, dict):
        return {name: _on_white(own) if name != "datasets" else own for name, own in value.items()}
    if isinstance(value, list):
        return [_on_white(own) for own in value]
    return BLACK if value == INK else value
