"""A short markdown summary of a table, for a pull request or a job's summary page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from results.answer import answers
from results.answer_text import paragraphs
from results.certificate import NO_CERTIFICATES, Certificates
from results.render import PROBLEMS, escape, markdown_table, with_models
from results.sheet import Block, Column, Problem, Sheet, compose

TITLE = "### Fine-tuning benchmarks"
ONLY_ARMS = "Only arms of comparisons were measured; their verdicts are what `python -m benchmarks compare` prints."

LEFT_OUT = ("epoch\ns", "± test", "MB")
"""Columns that do not fit the width of a comment; `table` has them."""

MOST_ROWS, LONGEST_REASON = 40, 300
"""GitHub refuses a comment of over 65 536 characters."""


def as_summary(table: pd.DataFrame, certificates: Certificates = NO_CERTIFICATES) -> str:
    """What `results.table` returned, as GitHub's markdown: the answer, the figures that fit, the rest folded away.

    Every text from outside is escaped, and nobody is mentioned. What is cut off is counted.
    """
    if table.empty:
        return f"{TITLE}\n\n{ONLY_ARMS}\n"
    said = paragraphs(answers(table, certificates.all), list(table["status"]))
    return "\n".join(_lines(compose(table, certificates), said)) + "\n"


def _lines(sheet: Sheet, answers: list[list[str]]) -> Iterator[str]:
    yield TITLE
    for first, *further in answers:
        yield from ("", " ".join([f"**{escape(first)}**", *map(escape, further)]))
    for warning in sheet.warnings:
        yield from ("", f"⚠ {escape(warning)}")
    yield from ("", escape(sheet.caption))
    for block in sheet.blocks:
        yield from ("", *([f"**{escape(block.title)}**", ""] if block.title else ()))
        yield from _shortened(*with_models(_narrow(block)))
    for note in sheet.footnotes:
        yield from ("", escape(note))
    if sheet.problems:
        yield from _folded(
            f"{len(sheet.problems)} skipped or failed",
            _shortened(PROBLEMS, [_brief(problem) for problem in sheet.problems]),
        )
    if sheet.legend:
        yield from _folded("How to read it", [line for note in sheet.legend for line in (escape(note), "")])


def _narrow(block: Block) -> Block:
    kept = [place for place, column in enumerate(block.columns) if column.title not in LEFT_OUT]
    groups = tuple((title, tuple(tuple(row[place] for place in kept) for row in rows)) for title, rows in block.groups)
    return Block(block.title, tuple(block.columns[place] for place in kept), groups)


def _shortened(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from markdown_table(columns, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        yield from ("", f"… and {len(rows) - MOST_ROWS} more; `python -m benchmarks table` has them all.")


def _brief(problem: Problem) -> tuple[str, ...]:
    reason = problem.reason
    if len(reason) > LONGEST_REASON:
        reason = f"{reason[: LONGEST_REASON - 1]}…"
    return problem.status, problem.case, str(problem.runs), reason


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")
