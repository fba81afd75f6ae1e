"""The dataset, checkpoint and scenarios of the experiments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backends.reference import MODELS, open_session
from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.datasets.writing import PreparedDataset
from benchmarks.preparing.checkpoints import FoundCheckpoint
from harness.data.augment import parse_augment
from harness.data.checkpoint import NORMALISATIONS, write_checkpoint
from harness.running.initial_weights import random_arrays
from harness.spec import Case, Optimizer, Scenario, Schedule, Stage

MODEL = "tiny-cnn"
CLASSES = ("red", "green", "blue")
SIZE, SIDE = 16, 20
COUNTS = {"train": 50, "val": 12, "test": 40}
"""Images per split. The last batch of the training and of the test images is incomplete."""
BATCH = 8
AUGMENT = parse_augment("flip")

_RECIPE = Stage(
    epochs=3,
    head_lr=0.02,
    backbone_lr=0.005,
    bn_momentum=0.4,
    schedule=Schedule(name="cosine", warmup_steps=2),
    weight_decay=1e-3,
    batch_size=BATCH,
)
_ADAM, _ADAMW = Optimizer(name="adam"), Optimizer(name="adamw")


def _scenario(name: str, *changes: dict[str, object]) -> Scenario:
    fields = {field: getattr(_RECIPE, field) for field in _RECIPE.__struct_fields__}
    return Scenario(name=name, explanation="", stages=tuple(Stage(**{**fields, **change}) for change in changes))


TWO_STAGES = _scenario("two stages", {"frozen": "backbone"}, {"frozen": 1})
"""Two stages with frozen and trained parameters, and different rates for backbone and head."""
SCENARIOS = (
    TWO_STAGES,
    _scenario("full", {"optimizer": _ADAM, "head_lr": 0.002, "backbone_lr": 0.0005, "label_smoothing": 0.1}),
    _scenario("live norm", {"frozen": "backbone", "norm": "batch", "schedule": Schedule(name="step")}),
    _scenario("adamw", {"optimizer": _ADAMW, "head_lr": 0.002, "backbone_lr": 0.002, "frozen": 2, "norm": "auto"}),
)


def images() -> ArraySet:
    """Make noise with a slight tint per class, the same in every call."""
    splits = {}
    for number, (split, count) in enumerate(COUNTS.items()):
        draw = np.random.default_rng(number)
        labels = np.arange(count) % len(CLASSES)
        pixels = draw.integers(0, 200, (count, SIDE, SIDE, 3), dtype=np.uint8)
        pixels[np.arange(count), :, :, labels] += 6
        splits[split] = (pixels, labels.astype(np.int64))
    return ArraySet(CLASSES, splits, "selftest")


def dataset(home: Path) -> PreparedDataset:
    """Prepare the images in a folder."""
    return prepare_arrays("tints", images(), cache=home)


def checkpoint(path: Path) -> FoundCheckpoint:
    """Write a neutral checkpoint of the model in which every tensor differs from the initial values."""
    nothing = Scenario(name="", explanation="", stages=())
    case = Case(backend="reference", model=MODEL, scenario=nothing, dataset="", dataset_sha256="", image_size=SIZE)
    tensors = [t for t in open_session(case, MODELS[MODEL], len(CLASSES)).state() if t.part == "backbone"]
    arrays = random_arrays(tensors, MODELS[MODEL].initialisation, seed=7)
    draw = np.random.default_rng(7)
    for tensor in tensors:
        if tensor.role != "weight":
            shape = tensor.array.shape
            arrays[tensor.name] = (arrays[tensor.name] + draw.uniform(0.05, 0.2, shape)).astype(np.float32)
    meta = write_checkpoint(path, arrays, model=MODEL, normalisation=NORMALISATIONS["imagenet"], origin="selftest")
    return FoundCheckpoint(path, meta.sha256, path.name)
