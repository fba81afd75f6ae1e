"""What every backend must do, run inside a worker: many cases in one process, so that a framework starts once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from PIL import Image

from benchmarks.choosing.scenarios import RECIPES, SCENARIOS, Recipe
from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.inspecting.predict import predict
from benchmarks.selftest.several_devices.trials import plugin_of
from harness.contract import BUFFERS, Dividing, Probe, Session
from harness.data.checkpoint import NORMALISATIONS, write_checkpoint
from harness.data.dataset import open_dataset
from harness.data.feed import evaluation_batches
from harness.plugins import find_model
from harness.running.opening import FoundModel
from harness.running.record import Record
from harness.running.run import run_case
from harness.spec import Case, Job, Scenario, Stage
from results.rules.record_rules import breaches
from results.rules.time_rules import voided
from tests.quickly import collect_rarely, compile_quickly

CLASSES = ("red", "green", "blue")
NOT_OF_THE_MACHINE = ("compile in window", "other steps", "fetched outside", "evaluated inside")
"""Rules about time that hold however busy the machine is."""
SHORT = {"epochs": 2, "batch_size": 8}


def short(name: str) -> Scenario:
    """A scenario of the project with two epochs of few steps in every stage."""
    recipe = Recipe(
        name="short",
        explanation="",
        stage=msgspec.structs.replace(RECIPES["embedded"].stage, **SHORT),
        two_stage_epochs=(2, 2),
    )
    made = SCENARIOS[name](recipe)
    return replace(made, stages=tuple(replace(stage, **SHORT) for stage in made.stages))


def check_cases(backend: str, engine: str | None, pairs: list[list[str]], folder: str) -> dict[str, list[str]]:
    """Problems of each (model, scenario) pair, by `model/scenario`; an empty list means that the contract holds."""
    compile_quickly(engine)
    collect_rarely()
    return {
        f"{model}/{name}": list(_problems(backend, engine, model, short(name), Path(folder), probed=place == 0))
        for place, (model, name) in enumerate(pairs)
    }


def _problems(
    backend: str, engine: str | None, model: str, scenario: Scenario, folder: Path, *, probed: bool
) -> list[str]:
    plugins = [str(path) for path in (plugin_of(backend),) if path.exists()]
    module, offered = find_model(backend, model, plugins)
    size = max(32, offered.minimum_size)
    prepared = prepare_arrays("coloured", coloured(size), cache=folder / "cache")
    case = Case(
        backend=backend,
        engine=engine,
        model=model,
        scenario=scenario,
        dataset="coloured",
        dataset_sha256=prepared.meta.sha256,
        image_size=size,
    )
    if reason := module.decline(case):
        return [f"declined: {reason}"]
    checkpoint = folder / f"{model}.safetensors"
    problems = _of_untrained(FoundModel(module, offered, CLASSES), case, prepared.folder, checkpoint, probed)
    job = Job(case=case, dataset_path=str(prepared.folder), checkpoint_path=str(checkpoint), strict=True,
              plugins=tuple(plugins), save_model=str(folder / "kept") if probed else None)  # fmt: skip
    record = run_case(job, str(folder), time.time(), lambda event: None)
    problems += _of_record(record, scenario)
    return problems + (_of_kept(record.artefacts["model"], plugins, folder, prepared.folder) if probed else [])


def _of_untrained(found: FoundModel, case: Case, dataset: Path, checkpoint: Path, probed: bool) -> list[str]:
    """What is wrong with a session before it trains. Writes its random weights."""
    session, size = found.open(case), case.image_size
    untrained = replace(case, seed=1, scenario=replace(case.scenario, start="random"))
    arrays, _ = found.start(session, untrained)
    problems = [*_of_state(session), *_of_predict(session, dataset, size)]
    if probed:
        problems += _of_features(session, found.model.blocks, dataset, size)
    if probed and hasattr(found.backend, "open_probe"):
        problems += _of_probe(found.backend.open_probe(session), session, size)
    backbone = {name: array for name, array in arrays.items() if not name.startswith("head.")}
    write_checkpoint(
        checkpoint, backbone, model=case.model, normalisation=NORMALISATIONS["imagenet"], origin="contract", classes=()
    )
    return problems


def coloured(size: int) -> ArraySet:
    """Noise with a tint per class: learnable in a few steps, 48 / 12 / 12 images."""
    draw = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 48), ("val", 12), ("test", 12)):
        labels = np.arange(count, dtype=np.int64) % 3
        pixels = draw.integers(0, 160, (count, size, size, 3), dtype=np.uint8)
        pixels[np.arange(count), :, :, labels] += 90
        splits[split] = (pixels, labels)
    return ArraySet(CLASSES, splits, "contract")


def _of_state(session: Session) -> list[str]:
    tensors = list(session.state())
    names = [tensor.name for tensor in tensors]
    problems = []
    if len(set(names)) != len(names):
        problems.append("state() repeats a name")
    if names != [tensor.name for tensor in session.state()]:
        problems.append("state() has no fixed order")
    parts = [tensor.part for tensor in tensors]
    if parts != sorted(parts):
        problems.append("state() does not give the backbone first")
    problems += [f"{t.name}: block {t.block} of the head" for t in tensors if t.part == "head" and t.block != -1]
    problems += [f"{t.name}: no block" for t in tensors if t.part == "backbone" and t.block < 0]
    changed = {t.name: t.array + np.ones((), t.array.dtype) for t in tensors}
    kept = {t.name: t.array.copy() for t in tensors}
    session.load(changed)
    problems += [
        f"{t.name} did not take what was loaded" for t in session.state() if not _same(t.array, changed[t.name])
    ]
    session.load(kept)
    return problems


def _of_predict(session: Session, folder: Path, size: int) -> list[str]:
    split = open_dataset(folder).splits["val"]
    images, _ = next(evaluation_batches(split, 8, size, NORMALISATIONS["imagenet"], session.batch_layout))
    before = {tensor.name: tensor.array.copy() for tensor in session.state()}
    first, second = session.predict(images), session.predict(images)
    problems = []
    if first.shape != (8, len(CLASSES)) or first.dtype != np.float32:
        problems.append(f"predict gave {first.dtype} {first.shape}")
    if not _same(first, second):
        problems.append("predict gives other logits for the same images")
    problems += [f"predict moved {t.name}" for t in session.state() if not _same(t.array, before[t.name])]
    return problems


def _of_features(session: Session, blocks: int, folder: Path, size: int) -> list[str]:
    """Whether logits from features are those from images, wherever the network is divided."""
    if not isinstance(session, Dividing):
        return []
    split = open_dataset(folder).splits["val"]
    images, _ = next(evaluation_batches(split, 8, size, NORMALISATIONS["imagenet"], session.batch_layout))
    logits = session.predict(images)
    problems = []
    for part in ("backbone", 1, blocks - 1):
        features = session.features(images, part)
        if len(features) != 8 or not _same(session.predict_kept(features, part), logits):
            problems.append(f"features {features.shape} of {part} give other logits")
    return problems


def _of_probe(probe: Probe, session: Session, size: int) -> list[str]:
    """Whether every question is answered, with arrays of the right names and shapes; all but the last block frozen."""
    tensors = list(session.state())
    blocks = max(tensor.block for tensor in tensors) + 1
    stage = Stage(epochs=1, head_lr=0.01, backbone_lr=0.001, frozen=blocks - 1)
    free = [t for t in tensors if t.role not in BUFFERS and not stage.is_frozen(t.part, t.block)]
    shapes = {tensor.name: tensor.array.shape for tensor in free}
    draw = np.random.default_rng(0)
    nhwc = session.batch_layout == "nhwc"
    images = draw.standard_normal((8, size, size, 3) if nhwc else (8, 3, size, size)).astype(np.float32)
    problems = []
    features = probe.features(images)
    if len(features) != blocks + 1 or any(len(one) != 8 or one.ndim not in (2, 4) for one in features):
        problems.append(f"features are {[one.shape for one in features]} for {blocks} blocks")
    if features[-1].shape != (8, len(CLASSES)) or {one.dtype.name for one in features} != {"float32"}:
        problems.append(f"the last features are no logits: {features[-1].dtype} {features[-1].shape}")
    loss, gradients = probe.gradients(stage, images, np.arange(8, dtype=np.int64) % len(CLASSES))
    if not np.isfinite(loss) or {name: one.shape for name, one in gradients.items()} != shapes:
        problems.append(f"gradients of {sorted(gradients)} with loss {loss}")
    for values in probe.play(stage, [1.0, 0.5], [gradients, gradients]):
        if {name: one.shape for name, one in values.items()} != shapes:
            problems.append(f"play gives {sorted(values)}")
    rates = probe.rates()
    if {part: round(rate, 9) for part, rate in rates.items()} != {"backbone": 0.0005, "head": 0.005}:
        problems.append(f"rates are {rates}")
    norms = [tensor.name.removesuffix(".running_mean") for tensor in tensors if tensor.role == "norm_mean"]
    if [norm.name for norm in probe.norms()] != norms:
        problems.append(f"norms are {probe.norms()}")
    dropping = probe.stochastic(stage, 4)
    problems += [f"{layer.name}: draws {layer.draws.shape}" for layer in dropping if layer.draws.shape != (4, 3, 2, 2)]
    return problems


def _of_record(record: Record, scenario: Scenario) -> list[str]:
    problems = [str(breach) for breach in breaches(record)]
    problems += [f"time is void: {code}" for code in voided(record) if code in NOT_OF_THE_MACHINE]
    for number, (said, stage) in enumerate(zip(record.stages, scenario.stages, strict=True), 1):
        problems += _of_steps(f"stage {number}", said, stage)
    if record.load is not None and not record.load.complete:
        problems.append(f"own checkpoint does not fit: {record.load.sentence()}")
    if abs(sum(record.wall_s.values()) - record.total_s) > 1e-6 or min(record.wall_s.values()) < 0:
        problems.append(f"parts of the wall do not add up: {record.wall_s}")
    if record.effective is None or record.effective.threads != 1 or record.effective.precision != "fp32":
        problems.append(f"not what was asked for: {record.effective}")
    if record.memory is None or record.test is None or not record.parameters["head"]:
        problems.append("no memory, quality or head")
    return problems


def _of_kept(kept: str, plugins: list[str], folder: Path, dataset: Path) -> list[str]:
    """Whether the framework's own file of the network gives the very logits of the run for its test images."""
    (folder / "images").mkdir(exist_ok=True)
    for number, image in enumerate(open_dataset(dataset).splits["test"].images):
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
    with np.load(folder / "logits.npz") as archive:
        wanted = archive["logits"]
    found = np.array([one.logits for one in predict(kept, [str(folder / "images")], True, plugins)], np.float32)
    return [] if _same(found, wanted) else ["what was kept predicts other logits than the run's"]


def _of_steps(where: str, said: Any, stage: Stage) -> list[str]:
    steps = stage.epochs * (48 // stage.batch_size)
    problems = []
    if len(said.step_us) != steps or len(said.losses) != steps or len(said.epochs) != stage.epochs:
        problems.append(f"{where}: {len(said.step_us)} steps in {len(said.epochs)} epochs")
    compiled = [w.kind for w in said.windows if w.compile_events and w.kind in ("throughput", "latency")]
    if compiled:
        problems.append(f"{where}: compiled in the {compiled[0]} window")
    if said.samples_seen != (stage.epochs, stage.epochs):
        problems.append(f"{where}: samples were seen {said.samples_seen} times in {stage.epochs} epochs")
    return problems


def _same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other))
