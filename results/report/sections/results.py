"""The answer, and the table with skipped and failed cases."""

from __future__ import annotations

from results.report.page_data import Material
from results.report.section import Grid, GridRow, Section
from results.tables.answer import answers, paragraphs
from results.tables.render import with_models
from results.tables.sheet import Block, Sheet


def table_section(material: Material) -> Section:
    """Show the table of all cases, with its footnotes and legend."""
    sheet = material.sheet
    if sheet is None:
        return Section(id="table", title="All cases", notes=("There are no records.",))
    grids = [_grid(sheet, sheet.block, material)] if sheet.block else []
    if sheet.problems:
        rows = tuple(GridRow((p.status, p.case, p.reason, str(p.runs))) for p in sheet.problems)
        columns = ("status", "case", "reason", "runs")
        grids.append(Grid("Skipped or failed", columns, rows, words=3, folded=False))
    notes = (*sheet.footnotes, *sheet.legend)
    return Section(id="table", title="All cases", paragraphs=(sheet.caption,), grids=tuple(grids), notes=notes)


def _grid(sheet: Sheet, block: Block, material: Material) -> Grid:
    columns, rows = with_models(block)
    words = next((n for n, column in enumerate(columns) if column.figures), len(columns))
    shown = (material.shown[place] for place in sheet.places)
    cells = tuple(GridRow(row, case.facets) for row, case in zip(rows, shown, strict=True))
    return Grid("Figures", tuple(column.title.replace("\n", " ") for column in columns), cells, words, folded=False)


def answer_section(material: Material) -> Section:
    """Show a paragraph per answer, or the reason why there is none."""
    sheet = material.sheet
    found = sheet.answer if sheet else paragraphs(answers(material.table), list(material.frame["status"]))
    return Section(id="answer", title="The answer", paragraphs=tuple(map(" ".join, found)))
