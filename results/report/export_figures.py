"""The charts of a page as PNG and SVG files for papers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from harness.errors import Refused, writing
from results.report.drawing import CONFIG, INK
from results.report.section import Chart, Section

WIDTH = 640  # pixels
SCALE = 2
BLACK = "#1b1b1f"


def export_figures(sections: Sequence[Section], folder: Path, names: Collection[str] = ()) -> list[Path]:
    """Write the named charts, or all, on white and with the initial choices of the page.

    Raises `Refused` for an unknown name and for a folder that is not writable.
    """
    drawn = [(chart, section) for section in sections for chart in section.charts]
    if unknown := set(names) - {chart.id for chart, _ in drawn}:
        known = ", ".join(chart.id for chart, _ in drawn)
        raise Refused(f"unknown chart {', '.join(sorted(unknown))}; the charts are {known or 'none'}")
    config = {**_on_white(CONFIG), "background": "white"}
    written = []
    with writing(f"--figures {folder}"):
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
    return written


def _fixed(chart: Chart, section: Section) -> dict[str, Any]:
    signals = {param["name"] for param in chart.spec["params"]}
    choices = [one for one in section.choices if one.signal in signals]
    chosen = [f"{one.label}: {words}" for one in choices for value, words in one.options if value == one.chosen]
    title = {"text": section.title, "subtitle": [chart.title, *chosen]}
    return {**_on_white(chart.spec), "width": WIDTH, "title": title}


def _on_white(value: Any) -> Any:
    """Replace the text colour of the page by black."""
    if isinstance(value, dict):
        return {name: _on_white(one) if name != "datasets" else one for name, one in value.items()}
    if isinstance(value, list):
        return [_on_white(one) for one in value]
    return BLACK if value == INK else value
