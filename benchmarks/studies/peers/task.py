"""The task that all loops of the study share, as a folder, and this project's loop on it. Both run in workers.

images.npy [n, h, w, 3] uint8   labels.npy [n] int64   order.npy [epochs, images of an epoch] int64
files/<class>/<position>.png    the same images, for a loop that reads files
weights.npz or model.keras      the initial weights: with torchvision's names, or as Keras saves them
task.json                       the recipe
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from harness.clock import Clock
from harness.contract import Session
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split, open_dataset
from harness.data.feed import Feed, stage_seed
from harness.running.opening import FoundModel, find_model_for
from harness.spec import Case

SCALING = NORMALISATIONS["imagenet"]
STEPS_FILE = "steps.json"


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a loop: the time at the end of each, the time at the end of the training, and the losses.

    Times are seconds of one clock. `wall_s` is that of the whole process.
    """

    step_ends_s: tuple[float, ...]
    end_s: float
    losses: tuple[float, ...]
    wall_s: float = 0.0


def prepare(case: Case, dataset_path: str, limit: int | None, task: str) -> int:
    """Write the task of a case; return the number of images. Raises `Refused` for less than a batch of images."""
    target = Path(task)
    found, session = _open(case, open_dataset(dataset_path).meta.classes)
    given = open_dataset(dataset_path, limit).splits["train"]
    chosen = np.argsort(given.labels, kind="stable")  # the order in which torchvision's ImageFolder lists them
    split = Split(given.images, given.labels[chosen], given.ids[chosen])
    feed = _feed(case, split, session)
    images = feed.crops(0, np.arange(len(chosen)))
    np.save(target / "images.npy", images)
    np.save(target / "labels.npy", split.labels)
    np.save(target / "order.npy", np.stack([feed.order(epoch) for epoch in range(feed.epochs)]))
    for position, (image, label) in enumerate(zip(images, split.labels, strict=True)):
        file = target / "files" / f"{label:04}" / f"{position:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    start, _ = found.start(session, case)
    if case.backend == "pytorch":
        named: dict[str, Any] = {_torchvision_name(name): array for name, array in start.items()}
        np.savez(target / "weights.npz", **named)
    else:
        session.save_native(task)
    stage = case.scenario.stages[0]
    facts = {
        "batch_size": stage.batch_size,
        "classes": len(found.classes),
        "frozen": stage.frozen == "backbone",
        "lr": stage.head_lr,
        "momentum": stage.optimizer.momentum,
        "threads": case.threads,
        "mean": SCALING.mean,
        "std": SCALING.std,
        "dtype": "float64" if case.precision == "fp64" else "float32",
    }
    (target / "task.json").write_bytes(msgspec.json.encode(facts))
    return len(chosen)


def train(case: Case, task: str) -> Steps:
    """Train with this project's loop, as `run` does, without evaluation."""
    source = Path(task)
    labels = np.load(source / "labels.npy")
    split = Split(np.load(source / "images.npy"), labels, np.arange(len(labels)))
    classes = tuple(
        str(label) for label in range(int(msgspec.json.decode((source / "task.json").read_bytes())["classes"]))
    )
    found, session = _open(case, classes)
    found.start(session, case)
    feed, stage = _feed(case, split, session), case.scenario.stages[0]
    clock = _Noting(
        steps=feed.epochs * feed.steps_per_epoch,
        batch_size=stage.batch_size,
        warmup_steps=case.warmup_steps,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=lambda epoch: None,
    )
    session.train(stage, feed, clock)
    return Steps(step_ends_s=tuple(clock.ends_s), end_s=time.perf_counter(), losses=tuple(clock.losses))


class _Noting(Clock):
    """The clock of `run`, which also notes when each step ended, as the scripts of the peers do."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        self.ends_s: list[float] = []

    def tick(self, loss: Any) -> None:
        super().tick(loss)
        self.ends_s.append(time.perf_counter())


def _open(case: Case, classes: tuple[str, ...]) -> tuple[FoundModel, Session]:
    found = find_model_for(case, (), classes)
    return found, found.open(case)


def _feed(case: Case, split: Split, session: Session) -> Feed:
    stage = case.scenario.stages[0]
    return Feed(
        split,
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        seed=stage_seed(case, 0),
        image_size=case.image_size,
        normalisation=SCALING,
        augmentations=(),
        layout=session.batch_layout,
    )


def _torchvision_name(name: str) -> str:
    return name.replace("head.", "fc.", 1) if name.startswith("head.") else name
