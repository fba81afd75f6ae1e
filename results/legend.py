"""The lines below a table: a footnote for each kind of mark, and how to read the columns and ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from results.figures import MARKS
from results.metric import METRICS
from results.side_by_side import Line
from results.standing import NONE_MADE
from results.wording import plain

Row = Mapping[Hashable, Any]
NAMED = 4
"""Rows that a footnote names at most."""


def footnotes(rows: Sequence[Row]) -> Iterator[str]:
    """A line per mark: the figure, what must be known about it, and which rows have it; rule ids are in brackets."""
    for code, mark in MARKS.items():
        marked = [row for row in rows if code in row["marks"]]
        if marked:
            title = METRICS[mark.metric].unit if mark.metric == "throughput" else METRICS[mark.metric].title
            yield f"~ {title}: {mark.sentence} – {_which(marked, rows)}"


def legend(
    table: pd.DataFrame, lines: Sequence[Line], *, wide: bool, shipped: frozenset[str] = frozenset()
) -> Iterator[str]:
    """How to read the columns, the ratios with their certificates, which method leads when, notes on the data."""
    good = table[table["status"] == "ok"]
    ends = ", with its 95 % interval (under 6 runs smallest to largest)" if wide else ""
    yield f"images/s, times, MB: median over runs{ends}; train s leaves out compiling, total s is the whole process"
    yield "accuracy: mean over seeds ± half its 95 % t interval (none for one seed)"
    yield "MB: millions of bytes at the peak; of a process with the pages of its libraries, on a GPU what was allocated"
    if wide:
        images = good["test_images"].dropna().unique()
        judged = f" of {images[0]} images" if len(images) == 1 else ""
        yield f"resolution: points of accuracy that a test set{judged} cannot tell apart"
        yield "epoch s, step ms: median, of the last stage"
    yield from _ratios(lines, shipped)
    yield from table.attrs.get("leads", ())
    for dataset, rows in good.groupby("dataset", sort=False):
        if notes := dict.fromkeys(note for own in rows["notes"] for note in own):
            yield f"{dataset}: {'; '.join(notes)}"


def _which(marked: Sequence[Row], rows: Sequence[Row]) -> str:
    if len(marked) == len(rows):
        return "all rows"
    whole, own = Counter(map(_arm, rows)), Counter(map(_arm, marked))
    arms = [arm for arm, count in own.items() if count == whole[arm]]
    left = [row for row in marked if _arm(row) not in arms]
    methods, some = (Counter(row["scenario"] for row in among) for among in (rows, left))
    full = [method for method, count in some.items() if count == methods[method]]
    rest = [f"{row['scenario']} of {_arm(row)}" for row in left if row["scenario"] not in full]
    names = [*arms, *full, *rest]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return plain(", ".join(names[:NAMED]) + more)


def _arm(row: Row) -> str:
    return f"{row['model']} with {row['backend_name']}"


def _ratios(lines: Sequence[Line], shipped: frozenset[str]) -> Iterator[str]:
    found = [ratio for line in lines for ratio in line.ratios.values()]
    proved = [ratio for ratio in found if not isinstance(ratio, str)]
    if proved:
        interval = " (95 % interval of the ratio)" if any(not pd.isna(ratio.low) for ratio in proved) else ""
        yield f"×: images/s over those of the method's first framework{interval}; P3, P4: level of the certificate"
    if any(isinstance(ratio, str) for ratio in found):
        remedy = "; `python -m benchmarks certify` makes certificates" if f"≠ {NONE_MADE}" in found else ""
        yield f"≠: no ratio, for the reason beside it{remedy}"
    if any(isinstance(ratio, str) and ratio.endswith("(rounding)") for ratio in found):
        yield "(rounding): in float64 rounding grows several-fold a step, too fast to prove that ten steps are equal"
    for one in {ratio.certificate.sha256: ratio.certificate for ratio in proved}.values():
        arms = " and ".join(arm.backend for arm in one.arms)
        where = " on another machine; it comes with the project" if one.sha256 in shipped else ""
        yield f"certificate {one.sha256[:8]}: {one.model} in {arms}, made {one.made[:10]}{where}"
