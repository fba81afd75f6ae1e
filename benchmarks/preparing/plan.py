"""From what was asked for to jobs: data and checkpoints are prepared once, in workers, outside every measurement.

A case is refused here if batch norm would get a single value per channel from a batch of one image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase
from benchmarks.datasets import named
from benchmarks.datasets.named import Inventory, PreparedData
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint
from harness.data.dataset import DatasetMeta
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.launch import Event
from harness.process.machine import usable_cores
from harness.running.opening import find_model_for
from harness.spec import Case, Job, Part, Scenario, Stage


class PlannedCase(NamedTuple):
    """A case to run: its job, or the reason why it is skipped."""

    case: Case
    job: Job | None
    skip_reason: str = ""


class Preparation:
    """Prepares data and checkpoints, each once, and plans cases. `on_event` hears what is being done."""

    def __init__(self, catalogue: Catalogue, on_event: Callable[[Event], None]) -> None:
        self._catalogue, self._on_event = catalogue, on_event
        self._datasets: dict[tuple[object, ...], PreparedData | Declined] = {}
        self._said: dict[str, None] = {}
        self._checkpoints: dict[tuple[object, ...], FoundCheckpoint | Declined] = {}

    def plan(
        self,
        selected: SelectedCase,
        save_model: str | None = None,
        *,
        strict: bool = False,
        train_sample: int | None = None,
    ) -> PlannedCase:
        """The job of a case, or the reason why it is skipped. Raises `Refused` for bad input."""
        case = selected.case
        try:
            data = self.dataset(case.dataset, case.image_size, selected.validation_split, selected.splits)
            case = replace(case, dataset=data.meta.name, dataset_sha256=data.meta.sha256)
            self._said |= dict.fromkeys([data.sentence(), *(f"{data.meta.name}: {note}" for note in data.meta.notes)])
            _refuse_short(case, data.meta)
            refuse_single_values(case, self._catalogue.plugins)
            found = self._checkpoint_if_needed(selected)
        except Declined as reason:
            return PlannedCase(case, None, str(reason))
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
        return PlannedCase(case, job)

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
        return ask(named.inventory, {"data": data, "splits": splits}, Inventory)

    def _prepare(self, data: str, image_size: int, validation_split: float | None, splits: str | None) -> PreparedData:
        self._on_event({"preparing": data})
        arguments = {
            "data": data,
            "image_size": image_size,
            "validation_split": validation_split,
            "splits": splits,
            "plugin": self._catalogue.datasets.get(data),
        }
        return ask(named.prepare, arguments, PreparedData, about=data)

    def _checkpoint_if_needed(self, selected: SelectedCase) -> FoundCheckpoint | None:
        # From random initialisation only the normalisation of a checkpoint matters, and the embedded one's is default.
        if selected.case.scenario.start == "checkpoint":
            return self.checkpoint(selected)
        if selected.checkpoint == "embedded":
            return None
        try:
            return self.checkpoint(selected)
        except Declined:
            return None

    def checkpoint(self, selected: SelectedCase) -> FoundCheckpoint:
        """The neutral checkpoint of a case, made or imported if need be. Raises `Declined` or `Refused`."""
        key = source, model, scaling = selected.checkpoint, selected.case.model, selected.input_scaling
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
    decoded = msgspec.json.decode(case, type=Case)
    try:
        return ask(single_valued, {"case": decoded, "plugins": plugins}, list[SingleValued], engine=decoded.engine)
    except (Declined, Refused):  # a network that cannot be built is not the fault of its batches; the run reports it
        return []


def single_valued(case: Case, plugins: list[str]) -> list[SingleValued]:
    """Batch-norm layers of a case's network whose output has one value per channel, in order. Runs in a worker."""
    session = find_model_for(case, plugins, ("one class", "another class")).open(case)
    outputs = {layer.name: layer.output for layer in session.layers()}
    return [
        SingleValued(layer=name, part=tensor.part, block=tensor.block)
        for tensor in session.state()
        if tensor.role == "norm_mean"
        and (name := tensor.name.rpartition(".")[0]) in outputs
        and math.prod(outputs[name][1:]) == 1
    ]
