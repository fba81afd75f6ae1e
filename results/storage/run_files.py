"""One append-only JSON-lines file per run: `runs/<machine>/<yyyy>/<mm>/<ulid>.jsonl`.

Each row is one `write` of a complete line and one `fsync`, so a crash loses at most one row. The writer locks its file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypedDict

import msgspec
from numpy.typing import NDArray
from ulid import ULID

from harness import PROTOCOL
from harness.errors import Refused
from harness.process.machine import Machine
from harness.running.record import Record
from results.storage import objects, rows
from results.storage.comparison import Comparison
from results.storage.folder import Unwritable, make_folder


class Unfinished(NamedTuple):
    """An interrupted run: its file, its first row, and the keys of the cases that do not run again."""

    path: Path
    row: rows.RunRow
    done: frozenset[str]


class RowHeader(TypedDict):
    """The first fields of every row."""

    schema: int
    run: str
    protocol: int


class RunWriter:
    """Appends rows to the file of one run. Every method raises `Unwritable` if writing fails."""

    def __init__(self, results_dir: Path, path: Path, run: str, environment: str) -> None:
        self.results_dir, self.path, self.run = results_dir, path, run
        self._environment = environment
        make_folder(results_dir, path.parent)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise Unwritable(results_dir, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise Refused(f"{path} is being written by another process; wait for it or leave out --resume") from error

    def append(self, record: Record, *, environment: str = "", node: str = "", attempt: int = 0) -> None:
        """Write one `process` row to the disk. Raises ValueError for an unreadable record (JSON has no NaN).

        A node of a cluster gives the name of the JSON object of its `environment`, its address, and the attempt.
        """
        row = rows.ProcessRow(
            record=record, environment=environment or self._environment, node=node, attempt=attempt, **self._head()
        )
        self._write(row)

    def append_of_side(self, record: Record, comparison: str, side: rows.SideName) -> None:
        """Write one `process` row of a side of a comparison."""
        row = rows.ProcessRow(
            record=record, environment=self._environment, comparison=comparison, side=side, **self._head()
        )
        self._write(row)

    def append_pair(self, pair: rows.Pair) -> None:
        """Write one `pair` row."""
        self._write(rows.PairRow(environment=self._environment, **self._head(), **msgspec.structs.asdict(pair)))

    def append_verdict(self, comparison: Comparison) -> None:
        """Write one `verdict` row."""
        self._write(rows.VerdictRow(comparison=comparison, **self._head()))

    def finish(self, status: rows.RunStatus = "done") -> None:
        """Write the `end` row and close the file. A run with the status `interrupted` can be resumed."""
        self._write(rows.EndRow(schema=rows.SCHEMA, run=self.run, ended=_now(), status=status))
        self.close()

    def put_json(self, value: Any) -> str:
        """Store a JSON value beside the runs and return its SHA-256."""
        return objects.put_json(self.results_dir, value)

    def put_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Store arrays (logits and labels) beside the runs and return their SHA-256."""
        return objects.put_arrays(self.results_dir, arrays)

    def close(self) -> None:
        """Close the file. Without `finish` before, the run counts as unfinished."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _head(self) -> RowHeader:
        return {"schema": rows.SCHEMA, "run": self.run, "protocol": PROTOCOL}

    def _write(self, row: rows.Row) -> None:
        line = msgspec.json.encode(row) + b"\n"
        rows.check(line)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            line = rows.CUT + line
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise Unwritable(self.results_dir, error) from error


def open_run(
    results_dir: str | Path,
    *,
    command: Sequence[str],
    planned: Sequence[str],
    machine: Machine,
    environment: Mapping[str, Any],
    resume: Unfinished | None = None,
    shard: rows.Shard | None = None,
    nodes: Iterable[Machine] = (),
) -> RunWriter:
    """Start a run, or continue the one that `unfinished` found.

    `planned` are the keys of the cases to run, only those of `shard` if the plan is split; `nodes` are those
    of a cluster. Raises `Unwritable`; `Refused` if the run to resume is still running.
    """
    folder = Path(results_dir)
    environment_sha256 = objects.put_json(folder, environment)
    if resume is not None:
        return RunWriter(folder, resume.path, resume.row.run, environment_sha256)
    ulid = ULID()
    moment = ulid.datetime
    path = folder / "runs" / machine.key / f"{moment:%Y}" / f"{moment:%m}" / f"{ulid}.jsonl"
    first = rows.RunRow(
        schema=rows.SCHEMA,
        run=str(ulid),
        protocol=PROTOCOL,
        command=tuple(command),
        started=_now(),
        machine=objects.put_json(folder, machine),
        environment=environment_sha256,
        planned=tuple(planned),
        shard=shard,
        nodes=tuple(objects.put_json(folder, node) for node in dict.fromkeys(nodes)),
    )
    writer = RunWriter(folder, path, str(ulid), environment_sha256)
    writer._write(first)
    return writer


def run_files(results_dir: str | Path) -> list[Path]:
    """Return the files of all runs in a results folder, in order."""
    return sorted((Path(results_dir) / "runs").rglob("*.jsonl"))


def unfinished(
    results_dir: str | Path, machine: Machine | None = None, shard: rows.Shard | None = None
) -> Unfinished | None:
    """Find the latest run without an end or with the status `interrupted` that no process is writing.

    `machine` excludes the runs of other machines. Only a run of this shard counts; without one, only a whole run.
    """
    runs = Path(results_dir) / "runs"
    files = (runs if machine is None else runs / machine.key).rglob("*.jsonl")
    for path in sorted(files, key=lambda file: file.name, reverse=True):
        found = _open_end(path)
        if found is not None and found.row.shard == shard and not being_written(path):
            return found
    return None


def _open_end(path: Path) -> Unfinished | None:
    first: rows.RunRow | None = None
    ended: rows.RunStatus = "interrupted"
    done: dict[str, bool] = {}
    for line in rows.scan(path):
        if isinstance(line.row, rows.RunRow):
            first = line.row
        elif isinstance(line.row, rows.EndRow):
            ended = line.row.status
        elif isinstance(line.row, rows.PairRow | rows.VerdictRow) or (
            isinstance(line.row, rows.ProcessRow) and line.row.side
        ):
            return None  # a comparison cannot be resumed
        elif isinstance(line.row, rows.ProcessRow):
            done[line.row.record.key] = line.row.settled
            ended = "interrupted"
    if first is None or ended != "interrupted":
        return None
    return Unfinished(path, first, frozenset(key for key, settled in done.items() if settled))


def being_written(path: Path) -> bool:
    """Tell whether a writer holds the lock of a run file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
