"""A short markdown summary of a table, for a pull request or a job's summary page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from harness import PROGRAM
from results.certificates.certificate import NO_CERTIFICATES, Certificates
from results.tables.render import PROBLEMS, emphasised, escape, markdown_table, with_models
from results.tables.sheet import Heading, Problem, Sheet, compose

TITLE = "### Fine-tuning benchmarks"
ONLY_SIDES = f"Only sides of comparisons were measured; `{PROGRAM} compare` prints their verdicts."

MOST_ROWS, LONGEST_REASON = 40, 300
"""Limits, because GitHub refuses a comment of over 65 536 characters."""


def as_summary(table: pd.DataFrame, certificates: Certificates = NO_CERTIFICATES) -> str:
    """Write a `results.table` as GitHub markdown: the answer, the figures, and the rest in folded parts.

    Text from outside is escaped and mentions nobody. The number of omitted rows is given.
    """
    if table.empty:
        return f"{TITLE}\n\n{ONLY_SIDES}\n"
    return "\n".join(_lines(compose(table, certificates))) + "\n"


def _lines(sheet: Sheet) -> Iterator[str]:
    yield TITLE
    for sentences in sheet.answer:
        yield from ("", emphasised(sentences))
    for warning in sheet.warnings:
        yield from ("", f"⚠ {escape(warning)}")
    yield from ("", escape(sheet.caption))
    if sheet.block is not None:
        yield from ("", *_shortened(*with_models(sheet.block)))
    for note in sheet.footnotes:
        yield from ("", escape(note))
    if sheet.problems:
        rows = _shortened(PROBLEMS, [_brief(problem) for problem in sheet.problems])
        yield from _folded(f"{len(sheet.problems)} skipped or failed", rows)
    if sheet.legend:
        yield from _folded("How to read the table", [line for note in sheet.legend for line in (escape(note), "")])


def _shortened(columns: Sequence[Heading], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from markdown_table(columns, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        yield from ("", f"… and {len(rows) - MOST_ROWS} more; `{PROGRAM} table` shows all.")


def _brief(problem: Problem) -> tuple[str, ...]:
    long = len(problem.reason) > LONGEST_REASON
    reason = f"{problem.reason[: LONGEST_REASON - 1]}…" if long else problem.reason
    return problem.status, problem.case, str(problem.runs), reason


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")
