"""A stored folder says what it has always said: table, comparisons and the data of the report, held as files.

After a wanted change, `python -m tests.results.test_golden_folder` writes them again; look at the difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from results import load, table
from results.certificates.certificate import read_certificates
from results.exports.comparison_formats import formatted
from results.report.page_data import gather
from results.report.section import Section
from results.report.write import sections
from results.tables.render import render
from results.tables.sheet import Style
from results.tables.time_to_accuracy import sentences
from results.verdicts.stored_comparisons import read_comparisons

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
STORED = GOLDEN / "stored"
CAMPAIGN = ROOT / "docs" / "campaign"
NAMES = ("table.txt", "table.csv", "comparisons.json", "report.json")


def said(name: str) -> str:
    """What the stored folders say in the form of one golden file."""
    if name == "report.json":
        made = [as_data(section) for section in sections(gather(STORED))]
        return json.dumps(made, indent=1, ensure_ascii=False).replace(str(STORED), "STORED")
    if name == "comparisons.json":
        verdicts = [one.comparison for one in read_comparisons(CAMPAIGN) if one.comparison is not None]
        return formatted(verdicts, "json").decode()
    frame = load(STORED)
    rows = table(frame, target=0.6)
    rows.attrs["leads"] = list(sentences(frame))
    format = "text" if name == "table.txt" else "csv"
    proofs = read_certificates(STORED)
    return render(rows, format, certificates=proofs, style=Style(True, True), width=200, colour=False).decode()


def as_data(section: Section) -> dict[str, Any]:
    """A section without its drawing: its words, the cells of its tables, and a digest of the data of each chart."""
    return {
        "title": section.title,
        "paragraphs": section.paragraphs,
        "notes": section.notes,
        "tables": [{"columns": grid.columns, "rows": [row.cells for row in grid.rows]} for grid in section.grids],
        "charts": {chart.id: digest_of(chart.spec["datasets"]) for chart in section.charts},
    }


def digest_of(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_folder_says_what_it_always_said(name: str) -> None:
    assert said(name) == (GOLDEN / name).read_text()


if __name__ == "__main__":
    for each in NAMES:
        (GOLDEN / each).write_text(said(each))
