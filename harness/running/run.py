"""The run of one case in a worker: from prepared files to a record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.clock import REAL_TIME, TimeSource, empty_step_us
from harness.contract import BUFFERS, Session
from harness.data.checkpoint import tensors_digest
from harness.process import machine
from harness.process.imports import imported_files
from harness.process.memory import cannot_keep_memory, keep_freed_memory
from harness.rules import require
from harness.running import checks
from harness.running.evaluate import TRAIN_SAMPLE, Evaluator, on_cores
from harness.running.features import FeatureKeeping
from harness.running.numerics import Examined
from harness.running.opening import open_case
from harness.running.record import Record
from harness.running.saved_model import keep_model
from harness.running.sensors import Disturbance, EnergyMeter, Wall
from harness.running.stage import Orders, Report, StageRun
from harness.spec import Job, key, version


def run_case(
    job: Job, folder: str, started: float, report: Report, orders: Orders = dict, source: TimeSource = REAL_TIME
) -> Record:
    """Run the case of a `spec.Job` and return its record; test logits go to `folder`/logits.npz.

    Raises `Declined` if this machine cannot run it, `Refused` for wrong input, `NotFinite` if training diverged.
    """
    wall = Wall(started, source)

    def wait() -> None:
        report({"opened": job.case.label})
        wall.pause_for(orders)

    opened = open_case(job, wall.lap)
    if job.wait_after == "opening":
        wait()
    case, dataset, backend, session = job.case, opened.dataset, opened.found.backend, opened.session
    energy = EnergyMeter(case.device, source)
    if job.wait_after != "first step":
        wall.pause_for(energy.watch_idle)
    disturbance = Disturbance(source)

    def wait_in_training() -> None:
        disturbance.end()
        wait()
        wall.pause_for(energy.watch_idle)
        disturbance.begin()

    @contextmanager
    def untimed() -> Iterator[None]:
        watched = disturbance.end()
        with on_cores(session, job.evaluation_cores, case.threads):
            yield
        if watched:
            disturbance.begin()

    sample = TRAIN_SAMPLE if job.train_sample is None else job.train_sample
    evaluator = Evaluator(session, dataset, case.image_size, opened.found.normalisation, sample, untimed=untimed)
    versions = machine.versions(backend.PACKAGES)
    keeping = FeatureKeeping(session, case, opened.found.normalisation, job.features_path, versions, source.now)
    stages, private_peak, problems = [], 0, list[str]()
    for number in range(len(case.scenario.stages)):
        on_first_step = wait_in_training if number == 0 and job.wait_after == "first step" else None
        stage = StageRun(session, case, number, dataset, evaluator, source, keeping, on_first_step, energy.stage())
        stages.append(stage.run(wall, report))
        private_peak = max(private_peak, stage.private_peak)
        problems += stage.problems
    sensors = disturbance.read()
    if not cannot_keep_memory():
        keep_freed_memory()  # nothing is timed from here on
    _write_logits(evaluator, Path(folder))
    quality = {split: evaluator.quality(split) for split in ("test", "val")}
    wall.lap("evaluation")
    artefacts = keep_model(session, case, dataset.meta, opened.found.normalisation, job.save_model)
    parameters, subnormals = _count(session)
    memory = opened.memory(private_peak)
    effective = session.effective()
    numerics = backend.probe_numerics(session) if isinstance(backend, Examined) else None
    require(checks.head_in_name_only(session, case, len(dataset.meta.classes), evaluator.images("test")))
    wall.lap("other")
    parts = wall.parts()
    if job.plugins:
        report({"imported": imported_files()})
    return Record(
        case=case,
        key=key(case),
        version=version(case),
        status="ok",
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        total_s=sum(parts.values()),
        wall_s=parts,
        stages=tuple(stages),
        test=quality["test"],
        val=quality["val"],
        test_is_val=dataset.meta.test_is_val,
        classes=dataset.meta.classes,
        images={name: len(split.ids) for name, split in dataset.splits.items()},
        load=opened.load,
        head_sha256=tensors_digest({name: array for name, array in opened.start.items() if name.startswith("head.")}),
        start_sha256=tensors_digest(opened.start),
        parameters=parameters,
        memory=memory,
        sensors=sensors,
        energy=energy.read(),
        effective=effective,
        numerics=numerics,
        subnormals=subnormals,
        empty_step_us=empty_step_us(source),
        versions=versions,
        notes=(*dataset.meta.notes, *dict.fromkeys(problems)),
        artefacts=artefacts,
    )


def _write_logits(evaluator: Evaluator, folder: Path) -> None:
    test = evaluator.split("test")
    np.savez(folder / "logits.npz", logits=evaluator.logits("test"), labels=test.labels, ids=test.ids)


def _count(session: Session) -> tuple[dict[str, int], int]:
    """Count elements of backbone, head and buffers, and subnormal parameters."""
    counts, subnormals = {"backbone": 0, "head": 0, "buffers": 0}, 0
    for tensor in session.state():
        counts["buffers" if tensor.role in BUFFERS else tensor.part] += tensor.array.size
        if tensor.role not in BUFFERS:
            size = np.abs(tensor.array)
            subnormals += int(np.count_nonzero((size > 0) & (size < np.finfo(tensor.array.dtype).tiny)))
    return counts, subnormals
