"""A results folder like that of a real run: two models, two backends, three scenarios, seeds, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from harness.running.record import Quality, Record
from results.storage.run_files import RunWriter, open_run
from tests.conftest import coloured
from tests.results.records import MACHINE, build

EVIL = '<script>document.title="owned"</script>'
QUOTE = '"><img src=x onerror=document.title="owned">'
CLASSES = (EVIL, QUOTE, "bee")
IMAGES = 24
SCENARIOS = {"scratch": (0.4, 0.5, 0.55), "full": (0.6, 0.8, 0.85), "freeze-conv": (0.7, 0.8, 0.82)}
BACKENDS = {"pytorch": 50_000, "keras3": 60_000}
COMMAND = ("run", "--data", "ants and bees", "--seeds", "3")


def store_run(folder: Path, *records: Record, planned: tuple[str, ...] = (), end: bool = True) -> Path:
    """One run of these records, each with logits of its own; returns its file."""
    with open_run(folder, command=COMMAND, planned=planned, machine=MACHINE, environment={"system": "Linux"}) as run:
        for number, record in enumerate(records):
            run.append(record if record.status != "ok" else replace(record, logits=_logits(run, record, number)))
        if end:
            run.finish()
    return run.path


def _logits(run: RunWriter, record: Record, number: int) -> str:
    """Right for the share of images that the record says, wrong for the rest; other ones in each record."""
    draw = np.random.default_rng(number)
    classes = len(record.classes)
    labels = np.arange(IMAGES) % classes
    wrong = draw.permutation(IMAGES)[round(record.test.accuracy * IMAGES) if record.test else IMAGES :]
    said = labels.copy()
    said[wrong] = (said[wrong] + 1) % classes
    logits = draw.normal(size=(IMAGES, classes)).astype(np.float32)
    logits[np.arange(IMAGES), said] = logits.max() + 1
    return run.put_arrays({"logits": logits, "labels": labels, "ids": np.arange(IMAGES)})


def many(seeds: int = 3, *, dataset_sha256: str = "d" * 64) -> Iterator[Record]:
    """Every combination, each seed a little faster and better than the one before."""
    for model in ("resnet18", "mobilenet-v2-0.35"):
        for backend, step_us in BACKENDS.items():
            for scenario, curve in SCENARIOS.items():
                for seed in range(seeds):
                    record = build(
                        scenario=scenario,
                        model=model,
                        backend=backend,
                        seed=seed,
                        step_us=step_us + 1000 * seed,
                        accuracy=curve[-1] + 0.01 * seed,
                        curve=tuple(accuracy + 0.01 * seed for accuracy in curve),
                        dataset_sha256=dataset_sha256,
                    )
                    quality = Quality(
                        accuracy=round((curve[-1] + 0.01 * seed) * IMAGES) / IMAGES, loss=0.8, images=IMAGES
                    )
                    images = {"train": 48, "val": IMAGES, "test": IMAGES}
                    yield replace(record, classes=CLASSES, images=images, test=quality, val=quality)


def prepare_images(cache: Path) -> str:
    """Prepare as many images as the records were judged on; returns the data set's digest."""
    splits = {"train": coloured("train", 48), "val": coloured("val", IMAGES), "test": coloured("test", IMAGES)}
    return prepare_arrays("coloured", ArraySet(CLASSES, splits, "test"), cache=cache).meta.sha256


def gone_wrong() -> list[Record]:
    """A case that was skipped and one that failed, with a reason from outside."""
    return [
        build(scenario="two-stage", status="skipped", reason="no CUDA device here"),
        build(scenario=EVIL, status="failed", reason=f"file {QUOTE} cannot be read"),
    ]
