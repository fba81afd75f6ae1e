"""The charts of a page as PNG and SVG, for papers: one file of each kind per chart, named for it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
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


def export_figures(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write every chart, with the choices that the page begins with, on white. Raises `Refused` for a bad folder."""
    config = {**_on_white(CONFIG), "background": "white"}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in (chart for section in sections for chart in section.charts):
            spec = _fixed(chart)
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


def _fixed(chart: Chart) -> dict[str, Any]:
    spec: dict[str, Any] = _on_white(copy.deepcopy(chart.spec))
    spec.update(width=WIDTH, title=chart.title)
    return spec


def _on_white(value: Any) -> Any:
    """The page's colour of text becomes black; a file has no page around it."""
    if isinstance(value, dict):
        return {name: _on_white(own) if name != "datasets" else own for name, own in value.items()}
    if isinstance(value, list):
        return [_on_white(own) for own in value]
    return BLACK if value == INK else value
