"""One figure of one case as a badge: an SVG image, or the JSON that shields.io draws one from."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pandas as pd

from results.tables.columns import METRICS, Row
from results.tables.wording import figure, plain

FIGURE, NO_FIGURE, BROKEN = "#007ec6", "#9f9f9f", "#e05d44"
"""The blue, grey and red of shields.io. The colour does not rate a figure."""


class Badge(NamedTuple):
    """The text on the left, the text on the right, and the colour of the right side."""

    label: str
    message: str
    colour: str


def badge(row: Row, metric: str, label: str | None = None) -> Badge:
    """Make the badge of a row of `results.table`: the figure with its interval, or the status of the case."""
    title = label or f"{row['model']} {row['scenario']} ({row['backend_name']}) {METRICS[metric].title}"
    return Badge(plain(title), *_shown(row, metric))


def as_svg(shown: Badge) -> str:
    """Draw an SVG image; anybadge escapes the texts. Raises ImportError without anybadge."""
    from anybadge import Badge as Drawing

    drawing = Drawing(label=shown.label, value=shown.message, default_color=shown.colour)
    return str(drawing.badge_svg_text) + "\n"


def as_endpoint(shown: Badge) -> bytes:
    """Write JSON for https://img.shields.io/endpoint (schema version 1)."""
    content = {"schemaVersion": 1, "label": shown.label, "message": shown.message, "color": shown.colour}
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _shown(row: Row, metric: str) -> tuple[str, str]:
    if row["status"] != "ok":
        return row["status"], NO_FIGURE if row["status"] in ("skipped", "interrupted") else BROKEN
    if pd.isna(row[metric]):
        return "no figure", NO_FIGURE
    return f"{figure(row, metric, brief=metric != 'throughput')} {METRICS[metric].unit}", FIGURE
