"""Stored runs to one typed DataFrame, a row per process. What cannot be read is counted and told, never raised."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from harness.errors import Declined, Refused
from harness.rules import Breach
from harness.spec import SETTINGS, Case
from results.certificates.certificate import essence, packages
from results.certificates.scope import batch_sizes
from results.rules.folder_rules import missing_cases, unread_lines
from results.rules.pair_rules import traits
from results.rules.record_rules import judged
from results.storage.rows import EndRow, Fault, PairRow, ProcessRow, RunRow, scan
from results.tables.columns import PROCESS_TYPES
from results.tables.figures import measure
from results.tables.identity import setting_of, stages_of
from results.tables.parquet_cache import Piece, read_piece, write_piece


class NothingMeasured(Declined):
    """There is no record to read: nothing measured is never green (V50). The message says what was found instead."""


ALONE = "comparisons alone, no run of its own"
"""What a folder holds of which there is no table, and yet something to verify."""

ROWS_AT_ONCE = 5_000
"""Rows that are Python objects before they become columns; bounds memory."""


def load(path: str | Path) -> pd.DataFrame:
    """Read a results folder, a folder of runs or one run's file: a row per process, in the order of writing.

    Its columns are those of `results.tables.columns`; `offset` is where in `file` the row begins (see `record_at`).
    `step_us` holds all raw step times of the row as one int64 array; `attrs["unread"]` counts the lines that are none
    of ours by fault, `attrs["missing"]` the planned cases that a run lacks, and `attrs["warnings"]` holds a breach for
    each. A row that is in two files of one run (folders that were merged) counts once. Raises `Refused` for a path that
    does not exist, `NothingMeasured` if there is no record in it. A record that breaks a rule is read as failed,
    whatever it was written as.
    """
    path = Path(path)
    if not path.exists():
        raise Refused(f"{path} does not exist; name a results folder, as given to `run` with --results")
    files = list(row_files(path))
    several = Counter(file.name for file in files)
    reading = _Reading()
    for _, group in groupby(files, key=lambda file: file.parent):
        own = list(group)
        reading.add(own, alone=all(several[file.name] == 1 for file in own))
    warnings = reading.warnings()
    if not sum(map(len, reading.frames)):
        found = ALONE if reading.compared else "no record"
        raise NothingMeasured("; ".join([f"{path} holds {found}", *map(str, warnings)]))
    frame = pd.concat(reading.frames, ignore_index=True)
    frame.attrs.update(unread=dict(reading.unread), missing=reading.missing(), warnings=warnings)
    return frame


def row_files(path: Path) -> Iterator[Path]:
    """The files of runs under a results folder, or the one file that is named, in the order of the runs."""
    if path.is_file():
        yield path
    else:
        root = path / "runs" if (path / "runs").is_dir() else path
        yield from sorted(root.rglob("*.jsonl"), key=lambda file: (file.stem, file))


class _Said(msgspec.Struct):
    """What a file's lines say besides processes."""

    plan: RunRow | None = None
    ended: bool = False
    compared: bool = False
    keys: set[str] = msgspec.field(default_factory=set)
    unread: dict[Fault, int] = msgspec.field(default_factory=dict)


class _Reading:
    """What was gathered from the files so far."""

    def __init__(self) -> None:
        self.frames: list[pd.DataFrame] = []
        self.unread: Counter[Fault] = Counter()
        self.compared = False
        self._home: dict[tuple[str, bytes], Path] = {}
        self._plans: dict[str, RunRow] = {}
        self._ended: set[str] = set()
        self._keys: dict[str, set[str]] = defaultdict(set)

    def add(self, files: list[Path], *, alone: bool) -> None:
        """Take in the files of one folder; a row that another file has given already is the same row. Where no run has
        a file elsewhere (`alone`), their copy is taken, if there is one."""
        piece = read_piece(files) if alone else None
        if piece is None:
            parsed = [self._parse(file) for file in files]
            frame = pd.concat([frame for frame, _ in parsed], ignore_index=True) if len(parsed) > 1 else parsed[0][0]
            piece = Piece(frame, msgspec.json.encode([said for _, said in parsed]))
            if alone:
                write_piece(files, piece)
        self.frames.append(piece.frame)
        for file, said in zip(files, msgspec.json.decode(piece.said, type=list[_Said]), strict=True):
            run = said.plan.run if said.plan else file.stem
            self.unread.update(said.unread)
            self.compared |= said.compared
            self._keys[run] |= said.keys
            if said.plan:
                self._plans[run] = said.plan
            if said.ended:
                self._ended.add(run)

    def _parse(self, file: Path) -> tuple[pd.DataFrame, _Said]:
        rows: list[dict[str, Any]] = []
        frames: list[pd.DataFrame] = []
        said = _Said()
        for line in scan(file):
            if len(rows) == ROWS_AT_ONCE:
                frames.append(_typed(rows))
                rows = []
            row = line.row
            if isinstance(row, ProcessRow):
                if self._home.setdefault((row.run, line.digest), file) == file:
                    rows.append(_flat(row, str(file), line.offset))
                said.keys.add(row.record.key)
            elif isinstance(row, RunRow):
                said.plan = row
            elif isinstance(row, EndRow):
                said.ended |= row.status != "interrupted"
            elif isinstance(row, PairRow):
                said.compared = True
            elif line.fault is not None:
                said.unread[line.fault] = said.unread.get(line.fault, 0) + 1
        frame = pd.concat([*frames, _typed(rows)], ignore_index=True) if frames else _typed(rows)
        return frame, said

    def missing(self) -> dict[str, int]:
        """How many planned cases each run lacks that lacks any."""
        lacking = {run: len(set(plan.planned) - self._keys[run]) for run, plan in self._plans.items()}
        return {run: count for run, count in lacking.items() if count}

    def warnings(self) -> list[Breach]:
        """A breach for each of those runs, and for each kind of line that cannot be read."""
        planned = {run: len(set(plan.planned)) for run, plan in self._plans.items()}
        return [*missing_cases(planned, self.missing(), self._ended), *unread_lines(self.unread)]


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(PROCESS_TYPES)).astype(PROCESS_TYPES)


def _flat(row: ProcessRow, file: str, offset: int) -> dict[str, Any]:
    record = judged(row.record)
    steps = [np.asarray(stage.step_us, dtype=np.int64) for stage in record.stages]
    return {
        **_identity(record.case),
        **measure(record),
        "run": row.run,
        "protocol": row.protocol,
        "started": record.started,
        "key": record.key,
        "version": record.version,
        "machine": record.machine,
        "environment": _environment(row),
        "status": record.status,
        "reason": record.reason,
        "device": record.effective.device if record.effective else record.case.device,
        "device_name": record.effective.device_name if record.effective else None,
        # An idiom has its framework's own layout, whatever the case says.
        "layout": record.effective.layout if record.effective else record.case.layout,
        "backbone_parameters": record.parameters.get("backbone"),
        "wall_parts": "|".join(sorted(record.wall_s)),
        "wall_s": record.wall_s,
        "versions": record.versions,
        "packages": packages(record.versions),
        "traits": traits(record),
        "step_us": np.concatenate(steps) if steps else np.zeros(0, dtype=np.int64),
        "logits": record.logits,
        "comparison": row.comparison or None,
        "arm": row.side,
        "notes": list(record.notes),
        "file": file,
        "offset": offset,
    }


def _identity(case: Case) -> dict[str, Any]:
    return {
        **{name: getattr(case, name) for name in SETTINGS},
        "backend_name": case.backend_name,
        "scenario": case.scenario.name,
        "recipe": essence(case.scenario),
        "setting": setting_of(case),
        "stages": stages_of(case),
        "start": case.scenario.start,
        "epochs": sum(stage.epochs for stage in case.scenario.stages),
        "batch_size": batch_sizes(case.scenario),
        "augment": ", ".join(augmentation.name for augmentation in case.augment) or "none",
    }


def _environment(row: ProcessRow) -> str:
    """Twelve hex digits of what was installed in the worker and what started it; empty where it never came so far."""
    if not row.record.versions:
        return ""
    known = msgspec.json.encode([row.environment, row.record.versions], order="deterministic")
    return hashlib.sha256(known).hexdigest()[:12]
