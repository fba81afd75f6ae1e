"""One case, from prepared files to a record. Runs inside a worker; the backend is found by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.clock import REAL_TIME, TimeSource, empty_step_us
from harness.contract import BUFFERS, Backend, Model, Session
from harness.data.checkpoint import Checkpoint, Normalisation, read_checkpoint, tensors_digest
from harness.data.dataset import open_dataset
from harness.errors import Declined, Refused
from harness.plugins import find_model
from harness.process import machine
from harness.rules import require
from harness.running import checks
from harness.running.disturbance import Disturbance
from harness.running.evaluate import TRAIN_SAMPLE, Evaluator, on_cores
from harness.running.initial_weights import LoadReport, head_arrays, overlay, random_arrays
from harness.running.numerics import Examined
from harness.running.record import Memory, Record
from harness.running.saved_model import keep_model
from harness.running.sensors import Wall, anonymous_peak, peak_memory, private_memory
from harness.running.stage import Report, StageRun
from harness.spec import Case, Job, key, version

WITHOUT_CHECKPOINT = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""How inputs are scaled where no checkpoint says it."""


def run_case(
    job: dict[str, Any], folder: str, started: float, report: Report, source: TimeSource = REAL_TIME
) -> Record:
    """Run the case of a `spec.Job` and return its record; test logits go to `folder`/logits.npz.

    Raises `Declined` for what cannot be done here, `Refused` for wrong input, `NotFinite` for a training that diverged.
    """
    task = msgspec.convert(job, Job)
    case = task.case
    wall = Wall(started, source)
    dataset = open_dataset(task.dataset_path, case.limit, task.files_path)
    checkpoint = read_checkpoint(task.checkpoint_path) if task.checkpoint_path else None
    wall.lap("open files")
    backend, model = open_case(case, task.plugins)
    framework_bytes = private_memory()
    wall.lap("import")
    session = backend.open_session(case, model, len(dataset.meta.classes))
    wall.lap("build")
    start, load = start_from(session, task, model, checkpoint, dataset.meta.classes)
    wall.lap("load")

    normalisation = checkpoint.meta.normalisation if checkpoint else WITHOUT_CHECKPOINT
    disturbance = Disturbance(source)

    @contextmanager
    def untimed() -> Iterator[None]:
        watched = disturbance.end()
        with on_cores(session, task.evaluation_cores, case.threads):
            yield
        if watched:
            disturbance.begin()

    sample = TRAIN_SAMPLE if task.train_sample is None else task.train_sample
    evaluator = Evaluator(session, dataset, case.image_size, normalisation, sample, untimed=untimed)
    stages, private_peak = [], 0
    for number in range(len(case.scenario.stages)):
        stage = StageRun(session, case, number, dataset, evaluator, source)
        stages.append(stage.run(wall, report))
        private_peak = max(private_peak, stage.private_peak)
    sensors = disturbance.read()
    logits, val = evaluator.logits("test"), evaluator.quality("val")
    test = evaluator.split("test")
    np.savez(Path(folder) / "logits.npz", logits=logits, labels=test.labels, ids=test.ids)
    wall.lap("evaluation")
    artefacts = keep_model(session, case, dataset.meta, normalisation, task.save_model) if task.save_model else {}
    parameters, subnormals = _count(session)
    memory = Memory(
        process_peak=peak_memory(),
        private_peak=private_peak,
        framework=framework_bytes,
        device_peak=session.device_memory(),
        anonymous_peak=anonymous_peak(),
    )
    effective = session.effective()
    numerics = backend.probe_numerics(session) if isinstance(backend, Examined) else None
    require(checks.head_in_name_only(session, case, len(dataset.meta.classes), evaluator.images("test")))
    wall.lap("other")
    parts = wall.parts()
    return Record(
        case=case,
        key=key(case),
        version=version(case),
        status="ok",
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        total_s=sum(parts.values()),
        wall_s=parts,
        stages=tuple(stages),
        test=evaluator.judge(logits, "test"),
        val=val,
        test_is_val=dataset.meta.test_is_val,
        classes=dataset.meta.classes,
        images={name: len(split.ids) for name, split in dataset.splits.items()},
        load=load,
        head_sha256=tensors_digest({name: array for name, array in start.items() if name.startswith("head.")}),
        start_sha256=tensors_digest(start),
        parameters=parameters,
        memory=memory,
        sensors=sensors,
        effective=effective,
        numerics=numerics,
        subnormals=subnormals,
        empty_step_us=empty_step_us(source),
        versions=machine.versions(backend.PACKAGES),
        notes=dataset.meta.notes,
        artefacts=artefacts,
    )


def open_case(case: Case, plugins: Sequence[str]) -> tuple[Backend, Model]:
    """A case's backend and model. Raises `Declined` with the reason if it cannot run here."""
    backend, model = find_model(case.backend, case.model, plugins)
    reason = backend.decline(case)
    if reason:
        raise Declined(reason)
    return backend, model


def start_from(
    session: Session, task: Job, model: Model, checkpoint: Checkpoint | None, classes: tuple[str, ...]
) -> tuple[dict[str, NDArray[Any]], LoadReport | None]:
    """Load a session's first values and see that they arrived; see `starting_arrays`."""
    start, load = starting_arrays(session, task.case, model, checkpoint, classes)
    if task.strict and load is not None and not load.complete:
        raise Refused(f"--strict: the checkpoint does not fit {task.case.model}: {load.sentence()}")
    session.load(start)
    require(checks.not_loaded(session, start))
    return start, load


def starting_arrays(
    session: Session, case: Case, model: Model, checkpoint: Checkpoint | None, classes: tuple[str, ...]
) -> tuple[dict[str, NDArray[Any]], LoadReport | None]:
    """Every tensor's value before the first step, the same in every backend, and what became of the checkpoint's.

    With `idiom`, what no checkpoint says is left as the framework initialised it.
    """
    own = {tensor.name: tensor.array for tensor in session.state()}
    start = dict(own) if case.idiom else random_arrays(session.state(), model.initialisation, case.seed)
    if not case.idiom:
        init = case.scenario.head_init
        start.update(head_arrays(case.head, session.head_features, len(classes), init, case.seed))
    if case.scenario.start == "random":
        return start, None
    if checkpoint is None:
        raise Declined(f"{case.scenario.name} starts from a checkpoint and there is none for {case.model}")
    return start, overlay(start, model, checkpoint, classes if case.reuse_head else ())


def _count(session: Session) -> tuple[dict[str, int], int]:
    """Elements by part, buffers apart, and how many parameters are too small for a normal number of their type."""
    counts, subnormals = {"backbone": 0, "head": 0, "buffers": 0}, 0
    for tensor in session.state():
        counts["buffers" if tensor.role in BUFFERS else tensor.part] += tensor.array.size
        if tensor.role not in BUFFERS:
            size = np.abs(tensor.array)
            subnormals += int(np.count_nonzero((size > 0) & (size < np.finfo(tensor.array.dtype).tiny)))
    return counts, subnormals
