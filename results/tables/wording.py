"""Rows and their values as text: names of settings, figures, text from outside."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.errors import printable
from harness.rules import Breach
from harness.spec import SETTINGS
from results.tables.columns import METRICS, Row

_SHOWN = {when: [one for one in SETTINGS.values() if one.shown == when] for when in ("always", "other", "apart")}
WORDS = {
    **{one.name: one.words for one in (*_SHOWN["always"], *_SHOWN["other"])},
    "machine": "machine {}",
    "protocol": "protocol {}",
}
"""Settings that are named once above the table while they are equal in all rows, and have a column otherwise."""

QUIET = {one.name: "–" if one.default is None else str(one.default) for one in _SHOWN["other"]}
"""Settings that are not named above the table while they have these default values."""

APART = tuple(one.name for one in _SHOWN["apart"])
TELLING = ("epochs", "batch_size", "checkpoint", *APART, "environment", "version")
"""Columns that are shown only to distinguish two rows, in this order."""


def plain(text: str) -> str:
    """Put text from outside on one line, with visible control characters.

    >>> plain("bad\\x1b[2J name\\nsecond line")
    'bad\\\\x1b[2J name second line'
    """
    return printable(" ".join(text.split()))


def counted(number: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def figure(row: Row, name: str, *, brief: bool = False) -> str:
    """Format one figure of a row: `182 (176–190)`, `75.2 ± 3.1`; `brief` leaves out all intervals except `±`."""
    metric = METRICS[name]
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    text = metric.write(value)
    if pd.isna(value) or (brief and name != "accuracy"):
        return text
    if name == "accuracy":
        return text if pd.isna(low) else f"{text} ± {metric.write(max(high - value, value - low))}"
    return text if pd.isna(low) else f"{text} ({metric.write(low)}–{metric.write(high)})"


def breach_text(reason: Breach | str, *, ids: bool) -> str:
    """Write a breach with or without the id of its rule; other text stays unchanged.

    >>> breach_text(Breach("V07", "", "9 updates in 18 steps"), ids=True), breach_text("no CUDA", ids=False)
    ('V07: 9 updates in 18 steps', 'no CUDA')
    """
    return str(reason) if ids or isinstance(reason, str) else reason.words


def extra_columns(
    good: pd.DataFrame, named: Sequence[str] = ("model", "backend_name", "scenario"), telling: Sequence[str] = TELLING
) -> list[str]:
    """Return the columns besides `named` that distinguish rows: all differing WORDS, and `telling` as needed."""
    extra = [name for name in WORDS if len(good[name].unique()) > 1]
    shown = [*named, *extra]
    for name in telling:
        alike = good[good.duplicated(shown, keep=False)]
        if alike.empty:
            break
        if len(alike.drop_duplicates([*shown, name])) > len(alike.drop_duplicates(shown)):
            extra.append(name)
            shown.append(name)
    return extra


def worded(row: Row, name: str) -> str:
    """Write a setting with its value: `64 px`, `epochs 9`."""
    if name == "threads" and row[name] == 1:
        return "1 thread"
    return WORDS[name].format(setting(row, name)) if name in WORDS else f"{name} {setting(row, name)}"


def label(name: str) -> str:
    """Return the label of a setting."""
    return SETTINGS[name].label if name in SETTINGS else name.replace("_", " ")


def setting(row: Row, name: str) -> str:
    """Format the value of a setting."""
    value = row[name]
    if name in ("machine", "environment", "version", "setting"):
        return str(value)[:6]
    return "–" if pd.isna(value) else plain(str(value))
