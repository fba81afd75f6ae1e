"""A table in the format asked for. Figures stay typed up to here; formatting is the last step."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import msgspec
import pandas as pd

from harness.errors import Refused
from results.certificate import NO_CERTIFICATES, Certificates
from results.sheet import DEFAULT, Block, Column, Sheet, Style, compose
from results.text import as_text

Format = Literal["text", "markdown", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
PROBLEMS = (Column("status", False), Column("case", False), Column("runs"), Column("reason", False))
APART = "\N{ZERO WIDTH SPACE}"
"""Stands where GitHub would otherwise see a mention, a reference or an address."""


def render(
    table: pd.DataFrame,
    format: Format = "text",
    *,
    certificates: Certificates = NO_CERTIFICATES,
    style: Style = DEFAULT,
    width: int = 100,
    colour: bool = False,
) -> bytes:
    """What `results.table` returned, as UTF-8 text or, for `parquet`, as the bytes of a file.

    `text` and `markdown` begin with the answer and have ratios between backends, where `certificates` allow them;
    `style` is theirs alone.
    `csv`, `json` and `parquet` hold every column with full precision; lists are joined with `; ` in `csv`. Raises
    `Refused` for another format.
    """
    if format == "text":
        return as_text(compose(table, certificates, style), width, colour=colour).encode()
    if format == "markdown":
        return as_markdown(compose(table, certificates, style)).encode()
    if format == "csv":
        texts = {name: table[name].map("; ".join) for name in ("marks", "notes")}
        joined = table.assign(**texts, throughputs=[_joined(own) for own in table["throughputs"]])
        return joined.to_csv(index=False, lineterminator="\n").encode()
    if format == "json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"
    if format == "parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    raise Refused(f"no format is called {format!r}; use one of {', '.join(FORMATS)}")


def _joined(values: Iterable[float]) -> str:
    return "; ".join(map(repr, values))


def as_markdown(sheet: Sheet) -> str:
    """The sheet as GitHub's markdown; a group's title becomes the first column."""
    return "\n".join(_lines(sheet)) + "\n"


def _lines(sheet: Sheet) -> Iterator[str]:
    for said in sheet.answer:
        yield from (emphasised(said), "")
    yield escape(sheet.caption)
    if sheet.block is not None:
        yield from ("", *markdown_table(*with_models(sheet.block)))
    for line in (*sheet.footnotes, *sheet.legend):
        yield from ("", escape(line))
    if sheet.problems:
        yield from ("", "**Skipped or failed**", "")
        yield from markdown_table(PROBLEMS, [(p.status, p.case, str(p.runs), p.reason) for p in sheet.problems])
    for warning in sheet.warnings:
        yield from ("", f"**!** {escape(warning)}")


def emphasised(said: Sequence[str]) -> str:
    """Sentences as one paragraph of markdown, the first one bold."""
    return " ".join([f"**{escape(said[0])}**", *map(escape, said[1:])])


def with_models(block: Block) -> tuple[list[Column], list[tuple[str, ...]]]:
    """Columns and rows of a block, the titles of its groups as a column before the others."""
    return [Column("model", False), *block.columns], [(title, *row) for title, rows in block.groups for row in rows]


def markdown_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table in GitHub's markdown: the heading, the rule, a line per row."""
    yield _row(column.title for column in columns)
    yield "| " + " | ".join("---:" if column.figures else "---" for column in columns) + " |"
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    r"""Text from outside as GitHub's markdown that shows it and does nothing else.

    No markup, no new cell, no new line; nobody is mentioned, no issue and no address is linked (GitHub looks for those
    in what was escaped too, so an invisible space parts them).

    >>> escape("<b> | @all")
    '\\<b\\> \\| @\u200ball'
    """
    text = re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", " ".join(text.split()))
    text = re.sub(
        r"^([-+=])(?=[-+=\s]|$)|^(\d+)(?=[.)]\s)", lambda start: f"\\{start[1]}" if start[1] else f"{start[2]}\\", text
    )
    return re.sub(
        r"(@|#(?=\d)|:(?=/|[a-z+-][\w+-]*:)|\bGH-(?=\d)|\bwww(?=\.))", f"\\1{APART}", text, flags=re.IGNORECASE
    )
