"""Run planned cases one after the other, each in a fresh process, and store each record before the next case starts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.preparing.plan import PlannedCase
from benchmarks.running.together import groups, opened_together, train
from harness.data.dataset import open_dataset
from harness.entry import RUN_CASE
from harness.process.environment import HERE, Place
from harness.process.launch import Event, Outcome, Worker, launch
from harness.process.machine import Machine
from harness.rules import ask
from harness.running.record import Record, Status
from harness.spec import Case, Job, key, version
from results.rules.file_rules import FILE_RULES, Files
from results.rules.record_rules import judged
from results.storage.folder import Unwritable, make_folder
from results.storage.rows import SideName
from results.storage.run_files import RunWriter


def execute(
    plan: Sequence[PlannedCase],
    writer: RunWriter,
    machine: Machine,
    timeout_s: float,
    on_event: Callable[[Event], None],
) -> list[Record]:
    """Run every planned case, append its record, and return the records.

    On Ctrl-C the running case is recorded as `interrupted`, its worker is ended, and KeyboardInterrupt is raised again.
    """
    records = []
    for group in groups(plan, machine):
        with ExitStack() as stack:
            workers: list[Worker | None] = []
            for planned in group:
                on_event({"begin": planned.case.label})
                try:
                    workers = workers or stack.enter_context(opened_together(group, timeout_s))
                    record = _run(planned, workers.pop(0), writer, timeout_s, on_event)
                except KeyboardInterrupt:
                    ended = without_figures(planned.case, "interrupted", "Ctrl-C")
                    writer.append(replace(ended, machine=machine.key))
                    raise
                record = replace(judged(record), machine=machine.key)
                writer.append(record)
                records.append(record)
                on_event({"end": record})
    return records


def _run(
    planned: PlannedCase,
    worker: Worker | None,
    writer: RunWriter,
    timeout_s: float,
    on_event: Callable[[Event], None],
) -> Record:
    if planned.job is None:
        return without_figures(planned.case, "skipped", planned.skip_reason)
    if worker is None:
        return run_job(planned.job, writer, timeout_s, on_event)
    return record_of(planned.job, train(worker, on_event), writer)


def run_job(
    job: Job, writer: RunWriter, timeout_s: float, on_event: Callable[[Event], None], place: Place = HERE
) -> Record:
    """Run a job in a fresh process and store its logits; return the record without storing it."""
    case = job.case
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as folder:
        outcome = launch(
            RUN_CASE,
            {"job": job},
            folder=Path(folder),
            cores=case.cores,
            engine=case.engine,
            timeout_s=timeout_s,
            on_event=on_event,
            place=place,
        )
        return record_of(job, outcome, writer)


def record_of(job: Job, outcome: Outcome, writer: RunWriter) -> Record:
    """Return the record of an ended worker, and store its logits or its log."""
    if outcome.ending != "ok":
        return _of_failure(job.case, outcome, writer.results_dir)
    record = msgspec.json.decode(outcome.value, type=Record)
    with np.load(outcome.folder / "logits.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    files = Files(dataset=open_dataset(job.dataset_path, job.case.limit), **arrays)
    meta = files.dataset.meta
    listed = {"skipped": meta.skipped, "copies": meta.copies}
    skipped = writer.put_json(listed) if any(listed.values()) else None
    record = judged(record, ask(FILE_RULES, record, files))
    return replace(record, logits=writer.put_arrays(arrays), skipped=skipped)


def run_side(
    job: Job,
    writer: RunWriter,
    comparison: str,
    side: SideName,
    machine: str,
    timeout_s: float,
    on_event: Callable[[Event], None],
    place: Place = HERE,
) -> Record:
    """Run a job as a side of a comparison, and store its record; `machine` is the key of this machine."""
    record = replace(run_job(job, writer, timeout_s, on_event, place), machine=machine)
    writer.append_of_side(record, comparison, side)
    return record


def _of_failure(case: Case, outcome: Outcome, results_dir: Path) -> Record:
    status: Status = "failed" if outcome.ending == "refused" else outcome.ending
    record = without_figures(case, status, outcome.reason, outcome.seconds)
    if status == "skipped":
        return record
    log = results_dir / "logs" / f"{key(case)}-{datetime.now(UTC):%Y%m%dT%H%M%S}.txt"
    make_folder(results_dir, log.parent)
    try:
        shutil.copyfile(outcome.folder / "log.txt", log)
    except OSError as error:
        raise Unwritable(results_dir, error) from error
    return replace(record, artefacts={"log": str(log)})


def without_figures(case: Case, status: Status, reason: str, seconds: float = 0.0) -> Record:
    """Return the record of a case that was not measured to its end."""
    return Record(
        case=case,
        key=key(case),
        version=version(case),
        status=status,
        reason=reason,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        total_s=seconds,
    )


def exit_code(records: list[Record], wanted_by_name: bool) -> int:
    """Return 0 on success; 3 if a case failed, none was measured, or a case that the user named was skipped.

    In a suite, the cases of a backend that is not installed are skipped, which is not a failure.
    """
    statuses = {record.status for record in records}
    failed = statuses - {"ok", "skipped"} or "ok" not in statuses or ("skipped" in statuses and wanted_by_name)
    return 3 if failed else 0
