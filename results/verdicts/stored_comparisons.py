"""Stored comparisons: each with its pairs and processes, and those that were cut short."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from results.storage.comparison import Comparison
from results.storage.rows import PairRow, ProcessRow, VerdictRow, scan
from results.tables.load import row_files

_NAMED = re.compile(rb'"comparison"\s*:\s*("[^"]|\{)')


class StoredComparison(NamedTuple):
    """One comparison in `file`, with its pairs as they were measured; `comparison` is None if it was cut short."""

    name: str
    run: str
    file: Path
    comparison: Comparison | None
    pairs: tuple[PairRow, ...]
    processes: tuple[ProcessRow, ...]


def read_comparisons(path: str | Path) -> list[StoredComparison]:
    """Every comparison under a results folder, or in one run's file, oldest first; each once, however often stored."""
    found: dict[str, StoredComparison] = {}
    for file in filter(_holds_some, row_files(Path(path))):
        rows = [line.row for line in scan(file)]
        members = [row for row in rows if isinstance(row, PairRow | ProcessRow) and row.comparison]
        finished = {row.comparison.name: row.comparison for row in rows if isinstance(row, VerdictRow)}
        for name in dict.fromkeys([*(row.comparison for row in members), *finished]):
            own = [row for row in members if row.comparison == name]
            found[name] = StoredComparison(
                name=name,
                run=own[0].run if own else file.stem,
                file=file,
                comparison=finished.get(name),
                pairs=tuple(row for row in own if isinstance(row, PairRow)),
                processes=tuple(row for row in own if isinstance(row, ProcessRow)),
            )
    return list(found.values())


def _holds_some(file: Path) -> bool:
    """Whether a row of the file belongs to a comparison: most files have none, and reading them takes long."""
    with file.open("rb") as lines:
        return any(_NAMED.search(line) for line in lines)
