"""How rows and their values are written for people: names of settings, figures, text from outside."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.errors import printable
from results.tables.metric import METRICS

Row = Mapping[Hashable, Any]

SETTINGS = {
    "dataset": "{}", "image_size": "{} px", "device": "{}", "precision": "{}", "layout": "{}", "compile": "compile={}",
    "input": "{}", "threads": "{} threads", "head": "{} head", "idiom": "idiom={}", "machine": "machine {}",
    "protocol": "protocol {}",
}  # fmt: skip
"""Named once above the table while they are the same for all rows, a column each as soon as they differ."""

TELLING = ("epochs", "batch_size", "augment", "checkpoint", "limit", "workers", "warmup_steps", "environment",
           "version")  # fmt: skip
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


def without_rules(sentence: str) -> str:
    """A sentence without the ids of rules.

    >>> without_rules("V07: 9 updates in 18 steps"), without_rules("lacks 2 of them (V50); --resume")
    ('9 updates in 18 steps', 'lacks 2 of them; --resume')
    """
    return re.sub(r" \(V\d\d\)|\bV\d\d: ", "", sentence)


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
