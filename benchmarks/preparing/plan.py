"""Turn selected cases into jobs: prepare data and checkpoints once, in workers, before any measurement.

A case is refused here if a batch norm gets a single value per channel from a batch of one image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import WHOLE, Division, SelectedCase
from benchmarks.datasets import named
from benchmarks.datasets.cache import cache_folder
from benchmarks.datasets.layout.splits import listed
from benchmarks.datasets.named import Inventory, PreparedData
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint
from harness.data.dataset import DatasetMeta
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.launch import Event
from harness.process.machine import usable_cores
from harness.running.opening import find_model_for
from harness.spec import SETTINGS, Case, Job, Part, Scenario, Stage


class PlannedCase(NamedTuple):
    """A case to run: its job, or the reason why it is skipped."""

    case: Case
    job: Job | None
    skip_reason: str = ""

    def required_job(self) -> Job:
        """Return the job. Raise `Declined` with the reason if the case is skipped."""
        if self.job is None:
            raise Declined(self.skip_reason)
        return self.job


class Preparation:
    """Prepares data and checkpoints, each once, and plans cases. `on_event` gets the progress."""

    def __init__(self, catalogue: Catalogue, on_event: Callable[[Event], None]) -> None:
        self._catalogue, self._on_event = catalogue, on_event
        self._datasets: dict[tuple[object, ...], PreparedData | Declined] = {}
        self._notes: dict[str, None] = {}
        self._checkpoints: dict[tuple[object, ...], FoundCheckpoint | Declined] = {}

    def plan(
        self,
        selected: SelectedCase,
        save_model: str | None = None,
        *,
        strict: bool = False,
        train_sample: int | None = None,
    ) -> PlannedCase:
        """Return the job of a case, or the reason why it is skipped. Raises `Refused` for bad input."""
        case = selected.case
        try:
            data = self.dataset(case.dataset, case.image_size, selected.division)
            case = replace(case, dataset=data.meta.name, dataset_sha256=data.meta.sha256)
            self._notes |= dict.fromkeys([data.sentence(), *(f"{data.meta.name}: {note}" for note in data.meta.notes)])
            if unfit := without_fixed_part(case):
                raise Declined(unfit.reason)
            if reason := without_devices(case):
                raise Declined(reason)
            if reason := without_needed(case):
                raise Refused(reason)
            refuse_undivided(case)
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
            features_path=str(cache_folder() / "features"),
            evaluation_cores=tuple(usable_cores()),
        )
        return PlannedCase(case, job)

    def dataset_notes(self) -> list[str]:
        """Return lines about the datasets of the planned cases: classes with their images, splits, skipped files."""
        return list(self._notes)

    def dataset(self, data: str, image_size: int, division: Division = WHOLE) -> PreparedData:
        """Return a dataset; prepare it if it is not in the cache. Raises `Declined` or `Refused`."""
        key = (data, image_size, division)
        if key not in self._datasets:
            try:
                self._datasets[key] = self._prepare(data, image_size, division)
            except Declined as reason:
                self._datasets[key] = reason
        return _or_raise(self._datasets[key])

    def inventory(self, data: str, splits: str | None) -> Inventory:
        """Return the unused files of an image folder that is refused."""
        return ask(named.inventory, {"data": data, "splits": splits}, Inventory)

    def _prepare(self, data: str, image_size: int, division: Division) -> PreparedData:
        self._on_event({"preparing": data})
        plugin = self._catalogue.datasets.get(data)
        arguments: dict[str, Any] = {"data": data, "image_size": image_size, "plugin": plugin, **division._asdict()}
        if named.is_ready(data, image_size, plugin):
            return named.prepare(**arguments)  # starting a worker would take longer
        return ask(named.prepare, arguments, PreparedData, about=data)

    def _checkpoint_if_needed(self, selected: SelectedCase) -> FoundCheckpoint | None:
        # With random initialisation only the normalisation of a checkpoint matters; that of "embedded" is the default.
        if selected.case.scenario.start == "checkpoint":
            return self.checkpoint(selected)
        if selected.checkpoint == "embedded":
            return None
        try:
            return self.checkpoint(selected)
        except Declined:
            return None

    def checkpoint(self, selected: SelectedCase) -> FoundCheckpoint:
        """Return the neutral checkpoint of a case; make or import it if necessary. Raises `Declined` or `Refused`."""
        key = source, model, scaling = selected.checkpoint, selected.case.model, selected.input_scaling
        if key not in self._checkpoints:
            tools = self._catalogue, self.embedded_source, self._on_event
            try:
                self._checkpoints[key] = find_checkpoint(source, model, scaling, *tools)
            except Declined as reason:
                self._checkpoints[key] = reason
        return _or_raise(self._checkpoints[key])

    def embedded_source(self) -> tuple[str, str]:
        """Return the folder and SHA-256 of the embedded source task; prepare it if necessary."""
        data = self.dataset("embedded-source", 64)
        return data.folder, data.meta.sha256


def steps_of(stage: Stage, train_images: int) -> int:
    """Return the number of optimizer steps of a stage for a number of training images.

    >>> steps_of(Stage(epochs=2, head_lr=0.1, backbone_lr=0.1, batch_size=16), 40)
    4
    """
    return stage.epochs * (train_images // stage.batch_size)


class Unfit(NamedTuple):
    """Settings that a case cannot have together with the others, and why."""

    settings: tuple[str, ...]
    reason: str


def without_fixed_part(case: Case) -> Unfit | None:
    """Return which of the settings for a fixed part a case cannot have, or None if it can have all that it has."""
    why = f"no stage of {case.scenario.name} keeps a part of the network fixed"
    moves = all(stage.fixed_part == "none" for stage in case.scenario.stages)
    kept = case.features == "kept"
    if kept and moves:
        return Unfit(("features",), f"{why}; use --features live")
    if kept and case.input != "arrays":
        reason = f"features are kept of images that are ready in memory, not with --input {case.input}"
        return Unfit(("features",), reason)
    if case.fold_norms and moves:
        return Unfit(("fold_norms",), f"{why}; leave out --fold-norms")
    if case.fold_norms and kept:
        reason = "training steps from kept features compute no fixed part; leave out --fold-norms"
        return Unfit(("features", "fold_norms"), reason)
    return None


def without_devices(case: Case) -> str | None:
    """Return why a case cannot use several devices, or None if it can or uses one."""
    if case.devices == 1:
        return None
    used = f"with --devices {case.devices}"
    reasons = {
        f"kept features are trained on one device; use --features live {used}": case.features == "kept",
        f"batches are divided when they are ready in memory; use --input arrays {used}": case.input != "arrays",
        f"a compiled step runs on one device; leave out --compile {used}": case.compile,
        f"batch norms are folded on one device; leave out --fold-norms {used}": case.fold_norms,
        f"the loss of fp16 is scaled on one device; use --precision bf16 {used}": case.precision == "fp16",
        f"memory is kept by a single process; leave out --keep-memory {used}": case.keep_memory,
        f"data parallelism has no native defaults here; leave out --native-defaults {used}": case.idiom,
        f"data parallelism has the matched optimizers here; leave out --optimizer-rule own {used}": case.own_optimizer,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def without_needed(case: Case) -> str | None:
    """Return which setting of a case means nothing without another one, which the case does not have, or None."""
    for name, setting in SETTINGS.items():
        needed = SETTINGS.get(setting.needs)
        if needed and getattr(case, name) != setting.default and getattr(case, needed.name) == needed.default:
            option, other = (str(one.option).replace("_", "-") for one in (setting, needed))
            return f"--{option} {getattr(case, name)} means nothing without --{other}; use both"
    return None


def refuse_undivided(case: Case) -> None:
    """Raise `Refused` if a batch of the case cannot be divided between its devices."""
    if case.norm_scope == "device" and case.devices == 1:
        raise Refused("--norm-scope device: one device has the whole batch; use it with --devices 2 or more")
    for number, stage in enumerate(case.scenario.stages, 1):
        if stage.batch_size % case.devices:
            near = stage.batch_size - stage.batch_size % case.devices or case.devices
            raise Refused(
                f"{case.scenario.name}, stage {number}: a batch of {stage.batch_size} images cannot be divided between "
                f"{case.devices} devices; use --batch-size {near} or another multiple of {case.devices}"
            )


def _refuse_short(case: Case, meta: DatasetMeta) -> None:
    images = min(meta.counts["train"], case.limit or meta.counts["train"])
    skipped = f", {len(meta.skipped)} file{'s' * (len(meta.skipped) > 1)} skipped" if meta.skipped else ""
    read = f"data: {images} training images of the classes {listed(meta.classes)}{skipped}"
    for number, stage in enumerate(case.scenario.stages, 1):
        where = f"{case.scenario.name}, stage {number} on {meta.name}"
        if stage.batch_size > images:
            raise Refused(f"{where}: a batch of {stage.batch_size} is larger than the training set; {read}")
        if (steps := steps_of(stage, images)) < case.warmup_steps + 2:
            raise Refused(
                f"{where}: too few steps ({steps}): the first step and {case.warmup_steps} warm-up steps do not "
                f"count; use more --epochs, a smaller --batch-size or fewer --warmup-steps; {read}"
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
    """Raise `Refused` if a stage has batches of one image and a batch norm gets one value per channel.

    Only then a worker builds the network to find such layers.
    """
    parts = case.devices if case.norm_scope == "device" else 1
    single = [(number, stage) for number, stage in enumerate(case.scenario.stages, 1) if stage.batch_size == parts]
    if not single:
        return
    alike = replace(case, scenario=ANY, dataset="", dataset_sha256="", seed=0, compile=False, devices=1)
    norms = _single_valued(msgspec.json.encode(alike), tuple(plugins))
    for number, stage in single:
        for norm in norms:
            if stage.uses_batch_statistics(norm.part, norm.block):
                raise Refused(
                    f"{case.scenario.name}, stage {number}: with a batch of 1 image of {case.image_size} px, "
                    f"{norm.layer} of {case.model} gets one value per channel, which batch norm cannot normalise; use "
                    f"--batch-size {2 * parts} or more, a larger --image-size or --bn-mode frozen"
                )


@functools.cache
def _single_valued(case: bytes, plugins: tuple[str, ...]) -> list[SingleValued]:
    decoded = msgspec.json.decode(case, type=Case)
    try:
        return ask(single_valued, {"case": decoded, "plugins": plugins}, list[SingleValued], engine=decoded.engine)
    except (Declined, Refused):  # the network cannot be built; the run reports that
        return []


def single_valued(case: Case, plugins: list[str]) -> list[SingleValued]:
    """Return the batch-norm layers of a network with one value per channel in their output; runs in a worker."""
    session = find_model_for(case, plugins, ("one class", "another class")).open(case)
    outputs = {layer.name: layer.output for layer in session.layers()}
    return [
        SingleValued(layer=name, part=tensor.part, block=tensor.block)
        for tensor in session.state()
        if tensor.role == "norm_mean"
        and (name := tensor.name.rpartition(".")[0]) in outputs
        and math.prod(outputs[name][1:]) == 1
    ]
