"""The data of a page: the rows of the table with their processes, runs, certificates, comparisons and explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from msgspec.structs import replace
from numpy.typing import NDArray

from harness.ceiling.ceiling import Ceiling
from harness.running.record import Record
from results.ceilings.stored import read_ceilings
from results.certificates.certificate import Certificates, read_certificates
from results.explanations.explanation import Explanation, read_explanations
from results.storage.folder import results_folder
from results.storage.rows import RunRow, records_at, scan
from results.tables.columns import METRICS, PROCESS_TYPES, Row, frame_of, key_of
from results.tables.load import NothingMeasured, load, row_files
from results.tables.sheet import Sheet, Style, compose
from results.tables.tabulate import GROUP, table
from results.tables.wording import WORDS, extra_columns, plain, worded
from results.verdicts.stored_comparisons import StoredComparison, read_comparisons

DRAWN = (
    "run", "seed", "started", "status", "marks", *(name for name in METRICS if name in PROCESS_TYPES), "epoch_seconds",
    "epoch_val_accuracy", "step_us", "file", "offset",
)  # fmt: skip
"""Columns of `load` that the sections read per process; each costs time per process."""


class Process(NamedTuple):
    """One process: its row of `load` with the columns of `DRAWN`, its record without losses and steps, its steps."""

    row: Row
    record: Record
    step_us: NDArray[np.int64]


class ShownCase(NamedTuple):
    """One `ok` row of the table with its names on the page, at position `number`.

    `setting` has the settings that differ between rows; `scenario` includes what else distinguishes two rows.
    """

    number: int
    setting: str
    model: str
    backend: str
    scenario: str
    row: Row
    processes: tuple[Process, ...]

    @property
    def name(self) -> str:
        return " · ".join(part for part in (self.scenario, self.model, self.backend, self.setting) if part)

    @property
    def facets(self) -> dict[str, str]:
        """The values for the filters of the page."""
        return {"backend": self.backend, "model": self.model, "scenario": self.scenario, "setting": self.setting}


class StoredRun(NamedTuple):
    """The first row of a run and its file."""

    row: RunRow
    file: Path


class Material(NamedTuple):
    """Everything that the sections read. `sheet` is None without records; `warnings` then give the reason."""

    results_dir: Path
    frame: pd.DataFrame
    table: pd.DataFrame
    sheet: Sheet | None
    shown: tuple[ShownCase, ...]
    runs: tuple[StoredRun, ...]
    certificates: Certificates
    warnings: tuple[str, ...]
    compared: tuple[StoredComparison, ...] = ()
    explained: tuple[Explanation, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()


def gather(path: Path) -> Material:
    """Read a results folder, or the file of one run. Raises `Refused` if there is no such path."""
    results_dir = results_folder(path)
    proofs, compared = read_certificates(results_dir), tuple(read_comparisons(path))
    more = compared, read_explanations(results_dir), read_ceilings(results_dir)
    try:
        frame = load(path)
    except NothingMeasured as nothing:
        reasons: tuple[str, ...] = () if compared else (str(nothing),)
        empty = frame_of([], PROCESS_TYPES)
        return Material(results_dir, empty, empty, None, (), _runs(path), proofs, reasons, *more)
    rows = table(frame)
    if rows.empty:
        warnings = tuple(map(str, frame.attrs["warnings"]))
        return Material(results_dir, frame, rows, None, (), _runs(path), proofs, warnings, *more)
    sheet, shown = compose(rows, proofs, Style(explain=True)), _shown(frame, rows)
    return Material(results_dir, frame, rows, sheet, shown, _runs(path), proofs, sheet.warnings, *more)


def _runs(path: Path) -> tuple[StoredRun, ...]:
    found = {}
    for file in row_files(path):
        first = next((line.row for line in scan(file) if isinstance(line.row, RunRow)), None)
        if first is not None:
            found[first.run] = StoredRun(first, file)
    return tuple(found.values())


def _shown(frame: pd.DataFrame, rows: pd.DataFrame) -> tuple[ShownCase, ...]:
    good = rows[rows["status"] == "ok"]
    extra = extra_columns(good)
    sources = frame[(frame["status"] == "ok") & frame["arm"].isna()]
    sources = sources[list(dict.fromkeys((*GROUP, *DRAWN)))]
    groups = (group for _, group in sources.groupby(list(GROUP), sort=False, dropna=False))
    places = {key_of(group.iloc[0].to_dict(), GROUP): group for group in groups}
    shown: list[ShownCase] = []
    for row in good.to_dict("records"):
        group = _rows(places[key_of(row, GROUP)][list(DRAWN)])
        setting = " · ".join(worded(row, name) for name in extra if name in WORDS)
        scenario = " · ".join([plain(row["scenario"]), *(worded(row, name) for name in extra if name not in WORDS)])
        processes = tuple(_processes(group))
        names = (setting, plain(row["model"]), plain(row["backend_name"]), scenario)
        shown.append(ShownCase(len(shown), *names, row, processes))
    return tuple(shown)


def _rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows as `DataFrame.to_dict` does, which takes five times as long."""
    names = list(frame)
    columns = [frame[name].astype(object).tolist() for name in names]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _processes(rows: Sequence[Row]) -> Iterator[Process]:
    for file, some in groupby(rows, key=itemgetter("file")):
        of_file = list(some)
        records = records_at(Path(file), (row["offset"] for row in of_file))
        for row, record in zip(of_file, records, strict=True):
            stages = tuple(replace(stage, step_us=(), losses=()) for stage in record.stages)
            yield Process(row, replace(record, stages=stages), row["step_us"])
