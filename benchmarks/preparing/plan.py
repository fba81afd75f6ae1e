"""From what was asked for to jobs: data and checkpoints are prepared once, in workers, outside every measurement.

A case is refused here if batch norm would get a single value per channel from a batch of one image.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import Draft
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint
from harness.data.dataset import DatasetMeta
from harness.errors import Declined, Refused
from harness.process.launch import Event, launch
from harness.process.machine import usable_cores
from harness.running.run import open_case
from harness.spec import Case, Job, Part, Scenario, Stage

CLASSES_SAID = 12
"""As many classes as a line of a run names."""


class Planned(NamedTuple):
    """A case to run, or why it cannot be."""

    case: Case
    job: Job | None
    skip: str = ""


class PreparedData(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in the cache; `files` is where its source files' names begin, `images` counts each split's classes."""

    folder: str
    files: str | None
    meta: DatasetMeta
    images: dict[str, tuple[int, ...]]

    def sentence(self) -> str:
        """The first classes with their images in each split, and how many classes there are."""
        each = zip(self.meta.classes, *self.images.values(), strict=True)
        counts = [f"{name} {'/'.join(map(str, numbers))}" for name, *numbers in each]
        more = [f"and {len(counts) - CLASSES_SAID} more"] if len(counts) > CLASSES_SAID else []
        said = ", ".join([*counts[:CLASSES_SAID], *more])
        return f"{self.meta.name}: {len(counts)} classes, images of {'/'.join(self.images)}: {said}"


class Inventory(NamedTuple):
    """Files of a folder that are not used, with the reason, and the names of each image that is in two splits."""

    skipped: list[tuple[str, str]]
    shared: list[tuple[str, ...]]


class Preparation:
    """Prepares what drafts need, each thing once. `on_event` hears what is being done."""

    def __init__(self, catalogue: Catalogue, on_event: Callable[[Event], None]) -> None:
        self._catalogue, self._on_event = catalogue, on_event
        self._datasets: dict[tuple[object, ...], PreparedData | Declined] = {}
        self._said: dict[str, None] = {}
        self._checkpoints: dict[tuple[object, ...], FoundCheckpoint | Declined] = {}

    def plan(
        self, draft: Draft, save_model: str | None = None, *, strict: bool = False, train_sample: int | None = None
    ) -> Planned:
        """The job of a draft, or the reason why it is skipped. Raises `Refused` for bad input."""
        case = draft.case
        try:
            data = self.dataset(draft.data, case.image_size, draft.validation_split, draft.splits)
            case = replace(case, dataset=data.meta.name, dataset_sha256=data.meta.sha256)
            self._said |= dict.fromkeys([data.sentence(), *(f"{data.meta.name}: {note}" for note in data.meta.notes)])
            _refuse_short(case, data.meta)
            refuse_single_values(case, self._catalogue.plugins)
            found = self._checkpoint_if_needed(draft)
        except Declined as reason:
            return Planned(case, None, str(reason))
        if found:
            case = replace(case, checkpoint=found.name, checkpoint_sha256=found.sha256)
        job = Job(
            case=case,
            dataset_path=data.folder,
            files_path=data.files,
            checkpoint_path=str(found.path) if found else None,
            save_model=save_model,
            plugins=self._catalogue.plugins,
            strict=strict,
            train_sample=train_sample,
            evaluation_cores=tuple(usable_cores()),
        )
        return Planned(case, job)

    def said_of_data(self) -> list[str]:
        """Lines about the datasets of the planned cases: classes with their images, splits, skipped files."""
        return list(self._said)

    def dataset(
        self, data: str, image_size: int, validation_split: float | None = None, splits: str | None = None
    ) -> PreparedData:
        """A dataset, prepared if it is not in the cache. Raises `Declined` or `Refused`."""
        key = (data, image_size, validation_split, splits)
        if key not in self._datasets:
            try:
                self._datasets[key] = self._prepare(data, image_size, validation_split, splits)
            except Declined as reason:
                self._datasets[key] = reason
        return _or_raise(self._datasets[key])

    def inventory(self, data: str, splits: str | None) -> Inventory:
        """What is not used of an image folder that is refused."""
        with tempfile.TemporaryDirectory() as place:
            arguments = {"data": data, "splits": splits}
            outcome = launch("benchmarks.datasets.named:inventory", arguments, folder=Path(place))
        return msgspec.json.decode(outcome.require(), type=Inventory)

    def _prepare(self, data: str, image_size: int, validation_split: float | None, splits: str | None) -> PreparedData:
        self._on_event({"preparing": data})
        arguments: dict[str, Any] = {
            "data": data,
            "image_size": image_size,
            "validation_split": validation_split,
            "splits": splits,
            "plugin": self._catalogue.datasets.get(data),
        }
        with tempfile.TemporaryDirectory() as folder:
            outcome = launch("benchmarks.datasets.named:prepare", arguments, folder=Path(folder))
        if outcome.ending == "skipped":
            raise Declined(outcome.reason)
        if outcome.ending != "ok":
            raise Refused(f"{data}: {outcome.reason}" if outcome.ending != "refused" else outcome.reason)
        return msgspec.json.decode(outcome.value, type=PreparedData)

    def _checkpoint_if_needed(self, draft: Draft) -> FoundCheckpoint | None:
        # From random initialisation only the normalisation of a checkpoint matters, and the embedded one's is default.
        if draft.case.scenario.start == "checkpoint":
            return self.checkpoint(draft)
        if draft.checkpoint == "embedded":
            return None
        try:
            return self.checkpoint(draft)
        except Declined:
            return None

    def checkpoint(self, draft: Draft) -> FoundCheckpoint:
        """The neutral checkpoint of a draft, made or imported if need be. Raises `Declined` or `Refused`."""
        key = source, model, scaling = draft.checkpoint, draft.case.model, draft.input_scaling
        if key not in self._checkpoints:
            try:
                self._checkpoints[key] = find_checkpoint(
                    source, model, scaling, self._catalogue, self.embedded_source, self._on_event
                )
            except Declined as reason:
                self._checkpoints[key] = reason
        return _or_raise(self._checkpoints[key])

    def embedded_source(self) -> tuple[str, str]:
        """Folder and SHA-256 of the embedded source task, prepared if need be."""
        data = self.dataset("embedded-source", 64)
        return data.folder, data.meta.sha256


def steps_of(stage: Stage, train_images: int) -> int:
    """Optimizer steps a stage takes over that many training images.

    >>> steps_of(Stage(epochs=2, head_lr=0.1, backbone_lr=0.1, batch_size=16), 40)
    4
    """
    return stage.epochs * (train_images // stage.batch_size)


def _refuse_short(case: Case, meta: DatasetMeta) -> None:
    images = min(meta.counts["train"], case.limit or meta.counts["train"])
    for number, stage in enumerate(case.scenario.stages, 1):
        where = f"{case.scenario.name}, stage {number} on {meta.name}"
        if stage.batch_size > images:
            raise Refused(f"{where}: a batch of {stage.batch_size} is larger than the training set of {images} images")
        if (steps := steps_of(stage, images)) < case.warmup_steps + 2:
            raise Refused(
                f"{where}: {steps} steps are not longer than the first step and {case.warmup_steps} of warm-up; "
                "use more --epochs, a smaller --batch-size or fewer --warmup-steps"
            )


T = TypeVar("T")


def _or_raise(value: T | Declined) -> T:
    if isinstance(value, Declined):
        raise value
    return value


ANY = Scenario(name="any", explanation="", stages=(Stage(epochs=1, head_lr=0.1, backbone_lr=0.1),), start="random")


class SingleValued(msgspec.Struct, frozen=True, kw_only=True):
    """A batch-norm layer that gets one value per channel and image."""

    layer: str
    part: Part
    block: int


def refuse_single_values(case: Case, plugins: Sequence[str]) -> None:
    """Raise `Refused` for a stage whose batches are one image of one value per channel for some batch norm.

    A worker builds the network to tell, only where a stage has batches of one image.
    """
    asked = [(number, stage) for number, stage in enumerate(case.scenario.stages, 1) if stage.batch_size == 1]
    if not asked:
        return
    alike = replace(case, scenario=ANY, dataset="", dataset_sha256="", seed=0, compile=False)
    norms = _asked(msgspec.json.encode(alike), tuple(plugins))
    for number, stage in asked:
        for norm in norms:
            if stage.uses_batch_statistics(norm.part, norm.block):
                raise Refused(
                    f"{case.scenario.name}, stage {number}: a batch of 1 image of {case.image_size} px leaves "
                    f"{norm.layer} of {case.model} one value per channel, which batch norm cannot normalise; use a "
                    "--batch-size of 2 or more, a larger --image-size or --bn-mode frozen"
                )


@functools.cache
def _asked(case: bytes, plugins: tuple[str, ...]) -> list[SingleValued]:
    engine = msgspec.json.decode(case, type=Case).engine
    arguments = {"case": msgspec.json.decode(case), "plugins": plugins}
    with tempfile.TemporaryDirectory() as folder:
        outcome = launch("benchmarks.preparing.plan:single_valued", arguments, folder=Path(folder), engine=engine)
    # A network that cannot be built here is no fault of its batches; the run says what it is.
    return msgspec.json.decode(outcome.value, type=list[SingleValued]) if outcome.ending == "ok" else []


def single_valued(case: dict[str, Any], plugins: list[str]) -> list[SingleValued]:
    """Batch-norm layers of a case's network whose output has one value per channel, in order. Runs in a worker."""
    wanted = msgspec.convert(case, Case)
    backend, model = open_case(wanted, plugins)
    session = backend.open_session(wanted, model, 2)
    outputs = {layer.name: layer.output for layer in session.layers()}
    return [
        SingleValued(layer=name, part=tensor.part, block=tensor.block)
        for tensor in session.state()
        if tensor.role == "norm_mean"
        and (name := tensor.name.rpartition(".")[0]) in outputs
        and math.prod(outputs[name][1:]) == 1
    ]
