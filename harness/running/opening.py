"""Open a case in its worker: find backend and model, build a session, load the initial weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.contract import Backend, Model, Session
from harness.data.checkpoint import Checkpoint, Normalisation, read_checkpoint
from harness.data.dataset import Dataset, open_dataset
from harness.errors import Declined, Refused
from harness.plugins import find_model, prepare_process
from harness.process.memory import cannot_keep_memory, keep_freed_memory
from harness.rules import require
from harness.running import checks
from harness.running.initial_weights import LoadReport, head_arrays, overlay, random_arrays
from harness.running.record import Memory
from harness.running.sensors import anonymous_peak, peak_memory, private_memory
from harness.spec import Case, Job

WITHOUT_CHECKPOINT = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""Input scaling without a checkpoint."""
Arrays = dict[str, NDArray[Any]]


class FoundModel(NamedTuple):
    """The backend and model of a case, the classes of its head, and the checkpoint to start from, if any."""

    backend: Backend
    model: Model
    classes: tuple[str, ...]
    checkpoint: Checkpoint | None = None

    @property
    def normalisation(self) -> Normalisation:
        """The input scaling."""
        return self.checkpoint.meta.normalisation if self.checkpoint else WITHOUT_CHECKPOINT

    def open(self, case: Case) -> Session:
        """Build a session; `start` loads its weights."""
        if case.keep_memory:
            keep_freed_memory()
        return self.backend.open_session(case, self.model, len(self.classes))

    def start(self, session: Session, case: Case, *, strict: bool = False) -> tuple[Arrays, LoadReport | None]:
        """Load the initial weights, the same in every backend; return them and the checkpoint's report.

        With `idiom`, a tensor that is not in the checkpoint keeps the framework's initial value. Raises `Declined` if
        the checkpoint is missing, and with `strict` `Refused` if it does not fit.
        """
        start = {tensor.name: tensor.array for tensor in session.state()}
        head: Arrays = {}
        if not case.idiom:
            init = case.scenario.head_init
            head = head_arrays(case.head, session.head_features, len(self.classes), init, case.seed)
        start |= head
        report = None
        if case.scenario.start == "checkpoint":
            if self.checkpoint is None:
                raise Declined(f"{case.scenario.name} needs a checkpoint, but {case.model} has none")
            report = overlay(start, self.model, self.checkpoint, self.classes if case.reuse_head else ())
            if strict and not report.complete:
                raise Refused(f"--strict: the checkpoint does not fit {case.model}: {report.sentence()}")
        if not case.idiom:
            known = {*head, *(report.loaded if report else ())}
            start |= random_arrays(session.state(), self.model.initialisation, case.seed, without=known)
        session.load(start)
        return start, report


def find_model_for(
    case: Case, plugins: Sequence[str], classes: Sequence[str] = (), checkpoint: Checkpoint | None = None
) -> FoundModel:
    """Find a case's backend and model. Raise `Declined` with the reason if the case cannot run here."""
    prepare_process(case.backend)
    backend, model = find_model(case.backend, case.model, plugins)
    if reason := backend.decline(case) or (case.keep_memory and cannot_keep_memory()):
        raise Declined(reason)
    return FoundModel(backend, model, tuple(classes), checkpoint)


class OpenedCase(NamedTuple):
    """A case that is ready to train; `framework_bytes` is the private memory before the session was built."""

    dataset: Dataset
    found: FoundModel
    session: Session
    start: Arrays
    load: LoadReport | None
    framework_bytes: int

    def memory(self, private_peak: int) -> Memory:
        """Return the memory of the process so far; `private_peak` is the largest private memory observed."""
        return Memory(
            process_peak=peak_memory(),
            private_peak=private_peak,
            framework=self.framework_bytes,
            device_peak=self.session.device_memory(),
            anonymous_peak=anonymous_peak(),
        )


def open_case(job: Job, lap: Callable[[str], object] = lambda part: None) -> OpenedCase:
    """Open the case of a job; `lap` is called with the name of each part when it is done."""
    case = job.case
    dataset = open_dataset(job.dataset_path, case.limit, job.files_path)
    if case.input == "native":
        _decline_escaped_names(dataset)
    checkpoint = read_checkpoint(job.checkpoint_path) if job.checkpoint_path else None
    lap("open files")
    found = find_model_for(case, job.plugins, dataset.meta.classes, checkpoint)
    framework_bytes = private_memory()
    lap("import")
    session = found.open(case)
    lap("build")
    start, load = found.start(session, case, strict=job.strict)
    require(checks.not_loaded(session, start))
    lap("load")
    return OpenedCase(dataset, found, session, start, load, framework_bytes)


def _decline_escaped_names(dataset: Dataset) -> None:
    # A prepared dataset lists its files as text, in which bytes that are not UTF-8 are escapes.
    files = dataset.splits["train"].files or ()
    lost = [file for file in files if "\\x" in file and not Path(file).exists()]
    if lost:
        raise Declined(
            f"{len(lost)} of {len(files)} training images have names that are not valid UTF-8, such as {lost[0]}; "
            "rename them, or use --input stream"
        )
