"""A sheet for the terminal, with rich. Where a row does not fit, its cells go below each other."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from results.sheet import Block, Problem, Sheet

INDENT = 2
STYLES = {"ok": "green", "skipped": "yellow", "interrupted": "yellow"}


def as_text(sheet: Sheet, width: int = 100, *, colour: bool = False) -> str:
    """The sheet as lines of at most `width` cells; `colour` adds ANSI codes and nothing else."""
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
    """The block with a line per row, as wide apart as fits; None if no way fits."""
    for gap, breaking in ((3, False), (2, False), (2, True), (1, True)):
        titles = [column.title if breaking else column.title.replace("\n", " ") for column in block.columns]
        widths = _widths(block, titles)
        if sum(widths) + gap * (len(widths) - 1) + INDENT <= width:
            return _lines(block, titles, widths, gap)
    return None


def _lines(block: Block, titles: list[str], widths: list[int], gap: int) -> Iterator[RenderableType]:
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
    """Cells never break."""
    rows = [row for _, own in block.groups for row in own]
    cells = zip(*rows, strict=True)
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
