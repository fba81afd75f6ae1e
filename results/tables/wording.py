"""How rows and their values are written for people: names of settings, figures, text from outside."""

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
"""Named once above the table while they are the same for all rows, a column each as soon as they differ."""

QUIET = {one.name: "–" if one.default is None else str(one.default) for one in _SHOWN["other"]}
"""Settings that are not named above the table while they have these values, their defaults."""

APART = tuple(one.name for one in _SHOWN["apart"])
TELLING = ("epochs", "batch_size", "checkpoint", *APART, "environment", "version")
"""Columns only where two rows could not be told apart otherwise, in this order."""


def plain(text: str) -> str:
    """Text from outside on one line, control characters shown and not sent to the terminal.

    >>> plain("bad\\x1b[2J name\\nsecond line")
    'bad\\\\x1b[2J name second line'
    """
    return printable(" ".join(text.split()))


def figure(row: Row, name: str, *, brief: bool = False) -> str:
    """One figure of one row for people: `182 (176–190)`, `75.2 ± 3.1`; `brief` leaves out what is no interval of it."""
    metric = METRICS[name]
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    text = metric.write(value)
    if pd.isna(value) or (brief and name != "accuracy"):
        return text
    if name == "accuracy":
        return text if pd.isna(low) else f"{text} ± {metric.write(max(high - value, value - low))}"
    return text if pd.isna(low) else f"{text} ({metric.write(low)}–{metric.write(high)})"


def told(said: Breach | str, *, ids: bool) -> str:
    """A breach in words, with the id of its rule or without; other text as it is.

    >>> told(Breach("V07", "", "9 updates in 18 steps"), ids=True), told("no CUDA", ids=False)
    ('V07: 9 updates in 18 steps', 'no CUDA')
    """
    return str(said) if ids or isinstance(said, str) else said.words


def extra_columns(
    good: pd.DataFrame,
    named: Sequence[str] = ("model", "backend_name", "scenario"),
    telling: Sequence[str] = TELLING,
) -> list[str]:
    """Columns in which rows differ besides those that are `named` anyway: of WORDS all that do, of `telling` as many
    as tell the rows apart."""
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
    """Such a column and its value in words: `64 px`, `epochs 9`."""
    if name == "threads" and row[name] == 1:
        return "1 thread"
    return WORDS[name].format(setting(row, name)) if name in WORDS else f"{name} {setting(row, name)}"


def label(name: str) -> str:
    """The name of such a column for people."""
    return SETTINGS[name].label if name in SETTINGS else name.replace("_", " ")


def setting(row: Row, name: str) -> str:
    """The value of such a column for people."""
    value = row[name]
    if name in ("machine", "environment", "version", "setting"):
        return str(value)[:6]
    return "–" if pd.isna(value) else plain(str(value))
