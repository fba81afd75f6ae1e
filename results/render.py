"""A table in the format asked for. Figures stay typed up to here; formatting is the last step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal, get_args

import msgspec
import pandas as pd

from harness.errors import Refused
from results.certificate import NO_CERTIFICATES, Certificates
from results.sheet import Block, Sheet, compose
from results.text import as_text

Format = Literal["text", "markdown", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(
    table: pd.DataFrame,
    format: Format = "text",
    *,
    certificates: Certificates = NO_CERTIFICATES,
    width: int = 100,
    colour: bool = False,
) -> bytes:
    """What `results.table` returned, as UTF-8 text or, for `parquet`, as the bytes of a file.

    Ratios between backends stand in `text` and `markdown`, where `certificates` allow them.
    `csv`, `json` and `parquet` hold every column with full precision; lists are joined with `; ` in `csv`. Raises
    `Refused` for another format.
    """
    if format == "text":
        return as_text(compose(table, certificates), width, colour=colour).encode()
    if format == "markdown":
        return as_markdown(compose(table, certificates)).encode()
    if format == "csv":
        joined = table.assign(**{name: table[name].map("; ".join) for name in ("marks", "notes")})
        return joined.to_csv(index=False, lineterminator="\n").encode()
    if format == "json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"
    if format == "parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    raise Refused(f"no format is called {format!r}; use one of {', '.join(FORMATS)}")


def as_markdown(sheet: Sheet) -> str:
    """The sheet as GitHub's markdown; a group's title becomes the first column."""
    return "\n".join(_lines(sheet)) + "\n"


def _lines(sheet: Sheet) -> Iterator[str]:
    yield escape(sheet.caption)
    for block in sheet.blocks:
        yield ""
        if block.title:
            yield from (f"**{block.title}**", "")
        yield from _block(block)
    for line in (*sheet.footnotes, *sheet.legend):
        yield from ("", escape(line))
    if sheet.problems:
        yield from ("", "**Skipped or failed**", "", "| status | case | runs | reason |", "| --- | --- | ---: | --- |")
        for problem in sheet.problems:
            yield _row(problem.status, problem.case, str(problem.runs), problem.reason)
    for warning in sheet.warnings:
        yield from ("", f"**!** {escape(warning)}")


def _block(block: Block) -> Iterator[str]:
    yield _row("model", *(column.title for column in block.columns))
    yield "| --- | " + " | ".join("---:" if column.figures else "---" for column in block.columns) + " |"
    for title, rows in block.groups:
        for row in rows:
            yield _row(title, *row)


def _row(*cells: str) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    """Text from outside stays text: no markup, no new cell, no new line."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
