"""One arm of a certificate: the results of a backend for given weights and batches, as arrays. Runs in a worker.

Both arms get the same questions in the same order with the same inputs; `results.certificates.proof` compares the
answers. Training uses the code that is timed (`harness.running.stage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from harness.certifying import conventions, gradient_tape
from harness.certifying.answers import ArmAnswers, LayerFacts, StageFacts, TensorFacts
from harness.certifying.cost import cost_of_stand_ins
from harness.contract import BUFFERS, Norm, Probe, Session, Tensor
from harness.data.checkpoint import read_checkpoint, tensors_digest
from harness.data.dataset import Dataset, open_dataset
from harness.data.feed import normalise
from harness.errors import Declined
from harness.process import machine
from harness.running.evaluate import Evaluator
from harness.running.initial_weights import random_arrays
from harness.running.opening import find_model_for
from harness.running.record import StageRecord
from harness.running.sensors import Wall
from harness.running.stage import Report, StageRun
from harness.spec import Case, Job, Part

IMAGES = 8
"""Number of images for every question that does not train."""
TRAINED_AT = 64
"""Side in pixels of the images of P3; P0 to P2 use every requested image size."""
STEPS = 10
COST_IMAGES = 4 * IMAGES
"""Images of the cost measurement: few, because EfficientNet-B0 on JAX takes 0.5 s per step and trains 16 epochs."""
Start = Literal["random", "checkpoint"]


def rehearse(jobs: list[Job], sizes: list[int], folder: str, report: Report, *, priced: bool = True) -> ArmAnswers:
    """Answer for one arm in one precision. `jobs` differ only in the scenario; `sizes` are the image sizes for P1.

    Writes `folder`/arrays.npz. In `fp64` all questions are answered; in another precision only logits, training and,
    with `priced`, the cost of the stand-ins per step.
    """
    arm = _Arm(jobs, report)
    for number, size in enumerate(sizes):
        arm.look(size, whole=number == 0)
    if arm.wide:
        arm.conform()
    for job in jobs:
        arm.train(job.case)
    if priced and not arm.wide:
        arm.price(jobs[0].case)
    np.savez(Path(folder) / "arrays.npz", **arm.arrays)  # type: ignore[arg-type]
    return arm.facts()


class _Arm:
    """Collects the answers. Each question opens a new session."""

    def __init__(self, jobs: list[Job], report: Report) -> None:
        self._report, self._case, self._data = report, jobs[0].case, jobs[0].dataset_path
        found = find_model_for(self._case, jobs[0].plugins)
        open_probe: Callable[[Session], Probe] | None = getattr(found.backend, "open_probe", None)
        if open_probe is None:
            raise Declined(f"{self._case.backend} has no probe, so it cannot be certified")
        # The first scenario may start from random values and then has no checkpoint.
        path = next((job.checkpoint_path for job in jobs if job.checkpoint_path), None)
        checkpoint = read_checkpoint(path) if path else None
        self._dataset, self._open_probe = self._training_on(IMAGES), open_probe
        self._found = found._replace(classes=self._dataset.meta.classes, checkpoint=checkpoint)
        self.wide = self._case.precision == "fp64"
        self._settings: dict[str, Any] = {}
        self._device = ""
        self.arrays: dict[str, NDArray[Any]] = {}
        self._answers: dict[str, Any] = {"start": {}, "images": {}, "losses": {}, "stages": {}, "stand_ins": {}}

    def facts(self) -> ArmAnswers:
        """Return the answers so far."""
        return ArmAnswers(
            versions=machine.versions(self._found.backend.PACKAGES),
            settings=self._settings,
            device=self._device,
            precision=self._case.precision,
            **self._answers,
        )

    def look(self, size: int, *, whole: bool) -> None:
        """Answer P0 to P2 for one image size: features, logits, gradients; with `whole` also tensors and layers."""
        case = replace(self._case, image_size=size, dropout=False)
        session, probe = self._open(case)
        images, labels = self._images(case, session.batch_layout)
        if whole:
            self._answers["tensors"] = tuple(_tensor(tensor) for tensor in session.state())
            named = {tensor.name.rpartition(".")[0] for tensor in session.state()}
            self._answers["layers"] = tuple(
                LayerFacts(name=one.name, output=one.output, parameters=one.parameters, macs=one.macs)
                for one in session.layers()
                if one.name in named
            )
        for start in self._starts():
            where = f"{start}, {size} px"
            self._report({"asking": f"features, {where}"})
            self._load(session, case, start)
            if start == "random":
                session.load(_unsettled(session, case.seed))
            pixels = images if session.batch_layout == "nhwc" else images.transpose(0, 2, 3, 1)
            self._answers["images"][where] = tensors_digest({"images": pixels})
            # Only torch counts its batches; no result depends on the counter.
            self._answers["start"][where] = {
                t.name: tensors_digest({t.name: t.array})[:16] for t in session.state() if t.role != "counter"
            }
            if not self.wide:
                self.arrays[f"logits/{where}"] = session.predict(images)
                continue
            *features, logits = probe.features(images)
            for block, feature in enumerate(features):
                self.arrays[f"features/{where}/{block}"] = feature
            self.arrays[f"logits/{where}"] = logits
            loss, gradients = probe.gradients(conventions.FULL, images, labels)
            self._answers["losses"][where] = loss
            self.arrays |= {f"gradients/{where}/{name}": array for name, array in gradients.items()}

    def conform(self) -> None:
        """Answer P4: optimizers with given gradients, dropout layers, augmentations."""
        session, probe = self._open(replace(self._case, dropout=False))
        reload = partial(self._load, session, self._case, "random")
        for kind in gradient_tape.RULES:
            self._report({"asking": f"updates of {kind}"})
            self.arrays.update(conventions.updates(session, probe, kind, reload))
        self.arrays.update(conventions.movement(session, probe, reload))
        train, normalisation = self._dataset.splits["train"], self._found.normalisation
        self._answers["augmented"] = conventions.augmented(train, self._case, IMAGES, normalisation, session)
        session, probe = self._open(replace(self._case, dropout=True))
        reload = partial(self._load, session, self._case, "random")
        self._answers["dropping"] = tuple(conventions.dropped(probe, reload))

    def train(self, case: Case) -> None:
        """Answer P3: run the scenario with the code that is timed, and record its state after every step."""
        name = case.scenario.name
        session, probe = self._open(case)
        effective = session.effective()
        self._settings, self._device = effective.settings, effective.device
        self._load(session, case, case.scenario.start)
        stages = []
        for number, stage in enumerate(case.scenario.stages):
            place = f"{name}/{number}"
            dataset = self._training_on(stage.batch_size)
            evaluator = Evaluator(session, dataset, case.image_size, self._found.normalisation, IMAGES, IMAGES)
            self._report({"asking": f"{name}, stage {number + 1}"})
            before = {t.name: t.array for t in session.state()}
            rates: list[dict[Part, float]] = []

            def note(event: Mapping[str, Any], place: str = place, rates: list[dict[Part, float]] = rates) -> None:
                rates.append(probe.rates())
                for tensor in session.state():
                    if tensor.role in BUFFERS - {"counter"}:
                        self.arrays[f"buffers/{place}/{event['epoch'] - 1}/{tensor.name}"] = tensor.array

            run = StageRun(session, case, number, dataset, evaluator)
            record = run.run(Wall(0.0), note)
            stages.append(_stage_facts(record, rates, probe.norms()))
            self._answers["stand_ins"] |= probe.stand_ins()
            for tensor in session.state():
                if tensor.role != "counter":
                    self.arrays[f"weights/{place}/{tensor.name}"] = tensor.array
                    self.arrays[f"moved/{place}/{tensor.name}"] = np.abs(tensor.array - before[tensor.name]).max()
        self._answers["stages"][name] = tuple(stages)

    def price(self, case: Case) -> None:
        """Measure the cost of the stand-ins, if there are any: with them, and with the framework's own parts."""
        if not self._answers["stand_ins"]:
            return
        self._report({"asking": "cost of the stand-ins"})
        batch_size = case.scenario.stages[0].batch_size
        dataset = self._training_on(batch_size, max(COST_IMAGES, batch_size))

        def ready(case: Case) -> Session:
            session = self._found.open(case)
            self._found.start(session, case)
            return session

        self._answers["cost"] = cost_of_stand_ins(ready, case, dataset, self._found.normalisation)

    def _training_on(self, batch_size: int, images: int | None = None) -> Dataset:
        """Return data with one batch per epoch, a different one each epoch, so that every step ends an epoch.

        Uses test images if there are too few training images. Raises `Declined` for a batch that is too large.
        """
        dataset = open_dataset(self._data, images or 2 * batch_size - 1)
        chosen = next((s for s in map(dataset.splits.get, ("train", "test")) if s and len(s.ids) >= batch_size), None)
        if chosen is None:
            raise Declined(f"a batch of {batch_size} is larger than the data set used for certificates")
        short = {
            name: split._replace(ids=split.ids[:IMAGES], labels=split.labels[:IMAGES])
            for name, split in dataset.splits.items()
        }
        return dataset._replace(splits={**short, "train": chosen})

    def _open(self, case: Case) -> tuple[Session, Probe]:
        session = self._found.open(case)
        return session, self._open_probe(session)

    def _starts(self) -> tuple[Start, ...]:
        return ("random", "checkpoint") if self._found.checkpoint else ("random",)

    def _load(self, session: Session, case: Case, start: Start) -> None:
        self._found.start(session, replace(case, scenario=replace(case.scenario, start=start)))

    def _images(self, case: Case, layout: Literal["nhwc", "nchw"]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return real images, cropped or tiled to size; the first has one white pixel, which reveals padding (V06)."""
        split = self._dataset.splits["val"]
        pixels = split.images[split.ids[:IMAGES]]
        repeats = -(-case.image_size // pixels.shape[1])
        pixels = np.tile(pixels, (1, repeats, repeats, 1))[:, : case.image_size, : case.image_size]
        pixels[0] = 0
        pixels[0, case.image_size // 2, case.image_size // 2] = 255
        return normalise(pixels, self._found.normalisation, layout), split.labels[:IMAGES]


def _unsettled(session: Session, seed: int) -> dict[str, NDArray[Any]]:
    """Draw values for the norm layers: their initial values 0 and 1 would hide a wrong epsilon or a swapped tensor."""
    kinds = ("norm_scale", "norm_bias", "norm_mean", "norm_var")
    norms = [tensor for tensor in session.state() if tensor.role in kinds]
    drawn = random_arrays((t._replace(role="weight", array=t.array[:, None]) for t in norms), "torch-default", seed)
    base = {"norm_scale": 1.0, "norm_bias": 0.0, "norm_mean": 0.0, "norm_var": 1.0}
    return {t.name: (base[t.role] + np.float32(0.2) * drawn[t.name][:, 0]).astype(np.float32) for t in norms}


def _tensor(tensor: Tensor) -> TensorFacts:
    return TensorFacts(
        name=tensor.name, shape=tensor.array.shape, part=tensor.part, block=tensor.block, role=tensor.role
    )


def _stage_facts(record: StageRecord, rates: list[dict[Part, float]], norms: list[Norm]) -> StageFacts:
    return StageFacts(
        losses=record.losses,
        val_losses=tuple(epoch.val_loss for epoch in record.epochs),
        rates=tuple(rates),
        norms=tuple(norms),
        order_sha256=record.order_sha256,
        pixels_sha256=record.pixels_sha256,
        kept_epoch=record.kept_epoch,
        breaches=record.audit.breaches,
    )
