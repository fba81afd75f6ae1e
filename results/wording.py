"""How rows and their values are written for people: names of settings, figures, text from outside."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.figures import MARKS
from results.metric import METRICS

Row = Mapping[Hashable, Any]

SETTINGS = {
    "dataset": "{}", "image_size": "{} px", "device": "{}", "precision": "{}", "layout": "{}", "compile": "compile={}",
    "input": "{}", "threads": "{} threads", "head": "{} head", "idiom": "idiom={}", "machine": "machine {}",
    "protocol": "protocol {}",
}  # fmt: skip
"""Named once above the table while they are the same for all rows, a column each as soon as they differ."""

TELLING = ("epochs", "augment", "checkpoint", "limit", "workers", "warmup_steps", "environment", "version")
"""Columns only where two rows could not be told apart otherwise, in this order."""


def plain(text: str) -> str:
    """Text from outside on one line, control characters shown and not sent to the terminal.

    >>> plain("bad\\x1b[2J name\\nsecond line")
    'bad\\\\x1b[2J name second line'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def figure(row: Row, name: str, signs: Mapping[str, str] | None = None, *, brief: bool = False) -> str:
    """One figure of one row for people: `182 (176–190)`, `75.2 % ± 3.1 (5)`; `brief` leaves out range and count."""
    metric = METRICS[name]
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    text = metric.write(value)
    if name == "accuracy" and not pd.isna(value):
        half = "" if pd.isna(low) else f" ± {metric.write(max(high - value, value - low))}"
        text = f"{text}{half}" if brief else f"{text} %{half} ({row['seeds']})"
    elif name == "time_to_accuracy_s" and not brief:
        text = f"{text} ({row['reached']}/{row['runs']})"
    elif name == "throughput" and not brief and not pd.isna(low):
        text = f"{text} ({metric.write(low)}–{metric.write(high)})"
    here = [sign for code, sign in (signs or {}).items() if code in row["marks"] and MARKS[code].metric == name]
    return text + "".join(here)


def extra_columns(
    good: pd.DataFrame,
    named: Sequence[str] = ("model", "backend_name", "scenario"),
    telling: Sequence[str] = TELLING,
) -> list[str]:
    """Columns in which rows differ besides those that are `named` anyway: of SETTINGS all that do, of `telling` as many
    as tell the rows apart."""
    extra = [name for name in SETTINGS if len(good[name].unique()) > 1]
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
    return SETTINGS[name].format(setting(row, name)) if name in SETTINGS else f"{name} {setting(row, name)}"


def setting(row: Row, name: str) -> str:
    """The value of such a column for people."""
    value = row[name]
    if name in ("machine", "environment", "version", "setting"):
        return str(value)[:6]
    return "–" if pd.isna(value) else plain(str(value))
