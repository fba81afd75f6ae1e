"""Read stored runs into one typed DataFrame, a row per process. Unreadable lines are counted, not raised."""

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
from harness.running.record import Record
from harness.spec import SETTINGS, Case
from results.ceilings.stored import read_ceilings
from results.ceilings.utilisation import mfu, trained_images
from results.certificates.certificate import essence, packages
from results.certificates.scope import batch_sizes
from results.rules.folder_rules import missing_cases, missing_shards, unread_lines
from results.rules.pair_rules import traits
from results.rules.record_rules import judged
from results.storage.folder import results_folder
from results.storage.rows import EndRow, Fault, PairRow, ProcessRow, RunRow, scan
from results.storage.shards import gaps
from results.tables.columns import PROCESS_TYPES, frame_of
from results.tables.figures import measure
from results.tables.identity import setting_of, stages_of
from results.tables.parquet_cache import Piece, read_piece, write_piece


class NothingMeasured(Declined):
    """There is no record to read (V50). The message says what the path holds instead."""


ONLY_COMPARISONS = "only comparisons and no runs"

ROWS_AT_ONCE = 5_000  # rows that are Python objects at the same time, to limit memory


def load(path: str | Path) -> pd.DataFrame:
    """Read a results folder, a folder of runs or one run's file: a row per process, in the order of writing.

    The columns are those of `results.tables.columns`. `attrs["unread"]` counts unreadable lines by fault,
    `attrs["missing"]` the missing planned cases by run, or by shard without a run if `path` is a folder, and
    `attrs["warnings"]` has a breach for each. A row in two files of one run (after a merge) counts once. A record that
    breaks a rule gets the status `failed`. Raises `Refused` for a path that does not exist, `NothingMeasured` if it
    holds no record.
    """
    path = Path(path)
    if not path.exists():
        raise Refused(f"{path} does not exist; name the results folder of a run (--results)")
    files = list(row_files(path))
    several = Counter(file.name for file in files)
    reading = _Reading()
    for _, group in groupby(files, key=lambda file: file.parent):
        siblings = list(group)
        reading.add(siblings, alone=all(several[file.name] == 1 for file in siblings))
    lost = [gap for gap in gaps(files) if not gap.begun] if path.is_dir() and reading.split else []
    warnings = [*missing_shards(lost), *reading.warnings()]
    if not sum(map(len, reading.frames)):
        found = ONLY_COMPARISONS if reading.compared else "no record"
        raise NothingMeasured("; ".join([f"{path} holds {found}", *map(str, warnings)]))
    frame = pd.concat(reading.frames, ignore_index=True)
    frame["mfu"] = mfu(frame, read_ceilings(results_folder(path)))
    missing = {**reading.missing(), **{f"shard {gap.shard.name} of {gap.shard.plan}": len(gap.missing) for gap in lost}}
    frame.attrs.update(unread=dict(reading.unread), missing=missing, warnings=warnings)
    return frame


def row_files(path: Path) -> Iterator[Path]:
    """Yield the run files under a results folder, or the given file, in the order of the runs."""
    if path.is_file():
        yield path
    else:
        root = path / "runs" if (path / "runs").is_dir() else path
        yield from sorted(root.rglob("*.jsonl"), key=lambda file: (file.stem, file))


class _Facts(msgspec.Struct):
    """What the lines of a file say besides processes."""

    plan: RunRow | None = None
    ended: bool = False
    compared: bool = False
    keys: set[str] = msgspec.field(default_factory=set)
    unread: dict[Fault, int] = msgspec.field(default_factory=dict)


class _Reading:
    """The content of the files that were read so far."""

    def __init__(self) -> None:
        self.frames: list[pd.DataFrame] = []
        self.unread: Counter[Fault] = Counter()
        self.compared = False
        self._home: dict[tuple[str, bytes], Path] = {}
        self._plans: dict[str, RunRow] = {}
        self._ended: set[str] = set()
        self._keys: dict[str, set[str]] = defaultdict(set)

    def add(self, files: list[Path], *, alone: bool) -> None:
        """Add the files of one folder, without the rows that other files had; use their cached copy if `alone`.

        `alone` means that no run in this folder has a file in another one.
        """
        piece = read_piece(files) if alone else None
        if piece is None:
            parsed = [self._parse(file) for file in files]
            frame = pd.concat([frame for frame, _ in parsed], ignore_index=True) if len(parsed) > 1 else parsed[0][0]
            piece = Piece(frame, msgspec.json.encode([facts for _, facts in parsed]))
            if alone:
                write_piece(files, piece)
        self.frames.append(piece.frame)
        for file, facts in zip(files, msgspec.json.decode(piece.facts, type=list[_Facts]), strict=True):
            run = facts.plan.run if facts.plan else file.stem
            self.unread.update(facts.unread)
            self.compared |= facts.compared
            self._keys[run] |= facts.keys
            if facts.plan:
                self._plans[run] = facts.plan
            if facts.ended:
                self._ended.add(run)

    def _parse(self, file: Path) -> tuple[pd.DataFrame, _Facts]:
        rows: list[dict[str, Any]] = []
        frames: list[pd.DataFrame] = []
        facts = _Facts()
        for line in scan(file):
            if len(rows) == ROWS_AT_ONCE:
                frames.append(frame_of(rows, PROCESS_TYPES))
                rows = []
            row = line.row
            if isinstance(row, ProcessRow):
                if self._home.setdefault((row.run, line.digest), file) == file:
                    rows.append(_flat(row, str(file), line.offset))
                facts.keys.add(row.record.key)
            elif isinstance(row, RunRow):
                facts.plan = row
            elif isinstance(row, EndRow):
                facts.ended |= row.status != "interrupted"
            elif isinstance(row, PairRow):
                facts.compared = True
            elif line.fault is not None:
                facts.unread[line.fault] = facts.unread.get(line.fault, 0) + 1
        frames.append(frame_of(rows, PROCESS_TYPES))
        frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
        return frame, facts

    @property
    def split(self) -> bool:
        """Whether a run is a part of a plan."""
        return any(plan.shard is not None for plan in self._plans.values())

    def missing(self) -> dict[str, int]:
        """Count the planned cases without a record, by run."""
        lacking = {run: len(set(plan.planned) - self._keys[run]) for run, plan in self._plans.items()}
        return {run: count for run, count in lacking.items() if count}

    def warnings(self) -> list[Breach]:
        """Return a breach for each run with missing cases, and for each kind of unreadable line."""
        planned = {run: len(set(plan.planned)) for run, plan in self._plans.items()}
        return [*missing_cases(planned, self.missing(), self._ended), *unread_lines(self.unread)]


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
        # With native defaults the framework chooses the layout.
        "layout": record.effective.layout if record.effective else record.case.layout,
        "backbone_parameters": record.parameters.get("backbone"),
        "wall_parts": "|".join(sorted(record.wall_s)),
        "wall_s": record.wall_s,
        "versions": record.versions,
        "packages": packages(record.versions),
        "traits": traits(record),
        "trained_images": trained_images(record),
        "step_us": np.concatenate(steps) if steps else np.zeros(0, dtype=np.int64),
        "logits": record.logits,
        "comparison": row.comparison or None,
        "arm": row.side,
        "notes": [*record.notes, *_checkpoint_notes(record)],
        "file": file,
        "offset": offset,
    }


def _checkpoint_notes(record: Record) -> list[str]:
    notes = record.load.notes if record.load else ()
    return [f"checkpoint of {record.case.model}: {note}" for note in notes]


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
    """Return 12 hex digits of the worker's packages and its parent's environment; empty without packages."""
    if not row.record.versions:
        return ""
    known = msgspec.json.encode([row.environment, row.record.versions], order="deterministic")
    return hashlib.sha256(known).hexdigest()[:12]
