"""The table, as it is printed elsewhere, with what was skipped or failed and why."""

from __future__ import annotations

from collections.abc import Iterator

from results.report.material import Material
from results.report.section import Grid, Row, Section
from results.sheet import Block


def table_section(material: Material) -> Section:
    """Every case, ratios only where certified; empty sections say what is missing."""
    sheet = material.sheet
    if sheet is None:
        return Section(id="table", title="All cases", notes=("There is no record to tabulate.",))
    grids = [_grid(block, material) for block in sheet.blocks]
    if sheet.problems:
        rows = tuple(Row((p.status, p.case, p.reason, str(p.runs))) for p in sheet.problems)
        columns = ("status", "case", "reason", "runs")
        grids.append(Grid("Skipped or failed", columns, rows, words=3, folded=False))
    return Section(
        id="table",
        title="All cases",
        paragraphs=(sheet.caption,),
        grids=tuple(grids),
        notes=(*sheet.footnotes, *sheet.legend),
    )


def _grid(block: Block, material: Material) -> Grid:
    columns = tuple(column.title.replace("\n", " ") for column in block.columns)
    words = next((n for n, column in enumerate(block.columns) if column.figures), len(columns))
    rows = tuple(_with_facets(block, material)) if not block.title else tuple(_by_names(block))
    return Grid(block.title or "Figures", ("model · backend", *columns), rows, words + 1, folded=False)


def _with_facets(block: Block, material: Material) -> Iterator[Row]:
    """The sheet groups rows by model and backend and keeps their order, and so do these."""
    groups: dict[str, list[int]] = {}
    for case in material.shown:
        groups.setdefault(f"{case.model} · {case.backend}", []).append(case.number)
    for title, rows in block.groups:
        for number, cells in zip(groups[title], rows, strict=True):
            yield Row((title, *cells), material.shown[number].facets)


def _by_names(block: Block) -> Iterator[Row]:
    for title, rows in block.groups:
        for cells in rows:
            yield Row((title, *cells), {"model": title, "scenario": cells[0]})
