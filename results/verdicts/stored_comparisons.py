"""Stored comparisons with their pairs and processes, interrupted ones included."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from results.storage.comparison import Comparison
from results.storage.rows import PairRow, ProcessRow, VerdictRow, scan
from results.tables.load import row_files

_NAMED = re.compile(rb'"comparison"\s*:\s*("[^"]|\{)')


class StoredComparison(NamedTuple):
    """One comparison in `file` with its pairs in order; `comparison` is None if it was interrupted."""

    name: str
    run: str
    file: Path
    comparison: Comparison | None
    pairs: tuple[PairRow, ...]
    processes: tuple[ProcessRow, ...]


def read_comparisons(path: str | Path) -> list[StoredComparison]:
    """Read every comparison under a results folder or in one run file once, oldest first."""
    found: dict[str, StoredComparison] = {}
    for file in filter(_holds_some, row_files(Path(path))):
        rows = [line.row for line in scan(file)]
        members = [row for row in rows if isinstance(row, PairRow | ProcessRow) and row.comparison]
        finished = {row.comparison.name: row.comparison for row in rows if isinstance(row, VerdictRow)}
        for name in dict.fromkeys([*(row.comparison for row in members), *finished]):
            rows_of = [row for row in members if row.comparison == name]
            found[name] = StoredComparison(
                name=name,
                run=rows_of[0].run if rows_of else file.stem,
                file=file,
                comparison=finished.get(name),
                pairs=tuple(row for row in rows_of if isinstance(row, PairRow)),
                processes=tuple(row for row in rows_of if isinstance(row, ProcessRow)),
            )
    return list(found.values())


def _holds_some(file: Path) -> bool:
    """Tell quickly whether a row of the file belongs to a comparison; most files have none."""
    with file.open("rb") as lines:
        return any(_NAMED.search(line) for line in lines)
