"""A table in the requested format. Formatting of figures is the last step."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import msgspec
import pandas as pd
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.errors import Refused
from results.certificates.certificate import NO_CERTIFICATES, Certificates
from results.tables.sheet import DEFAULT, Block, Heading, Problem, Sheet, Style, compose

Format = Literal["text", "markdown", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
PROBLEMS = (Heading("status", False), Heading("case", False), Heading("runs"), Heading("reason", False))
APART = "\N{ZERO WIDTH SPACE}"
"""Keeps GitHub from linking mentions, references and addresses."""


def render(
    table: pd.DataFrame,
    format: Format = "text",
    *,
    certificates: Certificates = NO_CERTIFICATES,
    style: Style = DEFAULT,
    width: int = 100,
    colour: bool = False,
) -> bytes:
    """Return the result of `results.table` as UTF-8 text or, for `parquet`, as the bytes of a file.

    `text` and `markdown` begin with the answer, show ratios that `certificates` allow, and follow `style`. `csv`,
    `json` and `parquet` hold every column with full precision; `csv` joins lists with `; `. Raises `Refused` for
    another format.
    """
    if format == "text":
        return as_text(compose(table, certificates, style), width, colour=colour).encode()
    if format == "markdown":
        return as_markdown(compose(table, certificates, style)).encode()
    if format == "csv":
        texts = {name: table[name].map("; ".join) for name in ("marks", "notes")}
        joined = table.assign(**texts, throughputs=["; ".join(map(repr, rates)) for rates in table["throughputs"]])
        return joined.to_csv(index=False, lineterminator="\n").encode()
    if format == "json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"
    if format == "parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    raise Refused(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")


def as_markdown(sheet: Sheet) -> str:
    """Return the sheet as GitHub markdown, with the model as the first column."""
    return "\n".join(_lines(sheet)) + "\n"


def _lines(sheet: Sheet) -> Iterator[str]:
    for sentences in sheet.answer:
        yield from (emphasised(sentences), "")
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


def emphasised(sentences: Sequence[str]) -> str:
    """Join sentences to one paragraph of markdown, the first one bold."""
    return " ".join([f"**{escape(sentences[0])}**", *map(escape, sentences[1:])])


def with_models(block: Block) -> tuple[list[Heading], list[tuple[str, ...]]]:
    """Return columns and rows of a block, with the model as the first column."""
    return [Heading("model", False), *block.columns], [(title, *row) for title, rows in block.groups for row in rows]


def markdown_table(columns: Sequence[Heading], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a GitHub markdown table."""
    yield _row(column.title for column in columns)
    yield "| " + " | ".join("---:" if column.figures else "---" for column in columns) + " |"
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    r"""Escape text for GitHub markdown: no markup, no new cell or line, no mention and no link.

    GitHub finds mentions, issues and addresses in escaped text too, so an invisible space splits them.

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


INDENT = 2
STYLES = {"ok": "green", "skipped": "yellow", "interrupted": "yellow"}


def as_text(sheet: Sheet, width: int = 100, *, colour: bool = False) -> str:
    """Return the sheet as lines of at most `width` cells; `colour` adds ANSI codes."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(Group(*_parts(sheet, width)))
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _parts(sheet: Sheet, width: int) -> Iterator[RenderableType]:
    for first, *further in sheet.answer:
        yield Text(first, "bold")
        if further:
            yield Padding(Text(" ".join(further)), (0, 0, 0, INDENT))
    yield Text(f"\n{sheet.caption}", "dim")
    if sheet.block is not None:
        yield Text()
        yield from _tabular(sheet.block, width) or _stacked(sheet.block)
    if sheet.footnotes or sheet.legend:
        yield Text()
        yield from (Text(line) for line in sheet.footnotes)
        yield from (Text(line, "dim") for line in sheet.legend)
    if sheet.problems:
        yield Text("\nSkipped or failed", "bold underline")
        yield _problems(sheet.problems)
    if sheet.warnings:
        yield Text()
        yield from (Text(f"! {warning}", "yellow") for warning in sheet.warnings)


def _tabular(block: Block, width: int) -> Iterator[RenderableType] | None:
    """Return the block with one line per row and the widest gaps that fit; None if the block is too wide."""
    for gap, breaking in ((3, False), (2, False), (2, True), (1, True)):
        titles = [column.title if breaking else column.title.replace("\n", " ") for column in block.columns]
        widths = _widths(block, titles)
        if sum(widths) + gap * (len(widths) - 1) + INDENT <= width:
            return _block_lines(block, titles, widths, gap)
    return None


def _block_lines(block: Block, titles: list[str], widths: list[int], gap: int) -> Iterator[RenderableType]:
    def grid(style: str) -> Table:
        table = Table.grid(padding=(0, gap, 0, 0))
        for column, width in zip(block.columns, widths, strict=True):
            justify: Literal["left", "right"] = "right" if column.figures else "left"
            table.add_column(width=width, justify=justify, style=style, vertical="bottom")
        return table

    heading = grid("dim")
    heading.add_row(*titles)
    yield Padding(heading, (0, 0, 0, INDENT))
    for title, rows in block.groups:
        yield Text(title, "bold")
        body = grid("")
        for row in rows:
            body.add_row(*map(Text, row))
        yield Padding(body, (0, 0, 0, INDENT))


def _widths(block: Block, titles: list[str]) -> list[int]:
    cells = zip(*(row for _, rows in block.groups for row in rows), strict=True)
    heads = (max(map(cell_len, title.split("\n"))) for title in titles)
    return [max(head, *map(cell_len, column)) for head, column in zip(heads, cells, strict=True)]


def _stacked(block: Block) -> Iterator[RenderableType]:
    words = next((place for place, column in enumerate(block.columns) if column.figures), 1)
    for title, rows in block.groups:
        yield Text(title, "bold")
        for row in rows:
            yield Text(f"  {' · '.join(row[:words])}")
            grid = Table.grid(padding=(0, 2, 0, 0))
            for column, cell in zip(block.columns[words:], row[words:], strict=True):
                if cell:
                    grid.add_row(Text(column.title.replace("\n", " "), "dim"), Text(cell))
            yield Padding(grid, (0, 0, 0, 4))


def _problems(problems: tuple[Problem, ...]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for problem in problems:
        runs = f" (×{problem.runs})" if problem.runs > 1 else ""
        where = Text.assemble((f"{problem.case}{runs}", ""), "\n", (problem.reason, "dim"))
        grid.add_row(Text(problem.status, STYLES.get(problem.status, "bold red")), where)
    return Padding(grid, (0, 0, 0, INDENT))
