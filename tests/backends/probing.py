"""One backend's answers to every question of a probe, for given weights, images and gradients. Runs in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.certifying import gradient_tape
from harness.certifying.dropout_probe import watch
from harness.clock import Clock
from harness.contract import BUFFERS, Probe, Session
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.plugins import find_model
from harness.running.initial_weights import random_arrays
from harness.schedule import factors
from harness.spec import Case, Optimizer, Scenario, Schedule, Stage
from tests.quickly import collect_rarely, compile_quickly

CLASSES, BATCH, DRAWS, STEPS = 3, 4, 4000, 6
RATES = {"head_lr": 0.01, "backbone_lr": 0.003, "batch_size": BATCH}
STAGES = {
    "full": Stage(epochs=1, label_smoothing=0.1, **RATES),
    "first blocks": Stage(epochs=1, frozen=3, norm="batch", bn_momentum=0.3, **RATES),
    "half": Stage(epochs=1, frozen=8, **RATES),
    "last blocks": Stage(epochs=1, frozen=17, label_smoothing=0.1, bn_momentum=0.3, **RATES),
    "backbone": Stage(epochs=1, frozen="backbone", **RATES),
}
RULES = {
    "sgd": Stage(epochs=1, weight_decay=0.1, **RATES),
    "adam": Stage(epochs=1, weight_decay=0.1, optimizer=Optimizer(name="adam", eps=1e-6), **RATES),
    "adamw": Stage(epochs=1, weight_decay=0.1, optimizer=Optimizer(name="adamw", betas=(0.8, 0.99)), **RATES),
    "adam of the last blocks": Stage(epochs=1, frozen=17, weight_decay=0.1, optimizer=Optimizer(name="adam"), **RATES),
}
SHORT = Stage(epochs=3, frozen="backbone", schedule=Schedule(name="cosine"), **RATES)
FACTORS = [1.0 if step < STEPS // 2 else 0.1 for step in range(STEPS)]


def probe_case(backend: str, engine: str | None, model: str, size: int, **fields: Any) -> Case:
    nothing = Scenario(name="none", explanation="", stages=())
    wanted = {"precision": "fp64", **fields}
    return Case(
        backend=backend, engine=engine, model=model, scenario=nothing, dataset="noise", dataset_sha256="",
        image_size=size, **wanted,
    )  # fmt: skip


def answers(
    backend: str,
    engine: str | None,
    model: str,
    size: int,
    stages: list[str],
    rules: list[str],
    others: bool,
    folder: str,
) -> dict[str, Any]:
    """Facts in float64; arrays go to `folder`/answers.npz, as `ask` names them. With `others`, `other_twins` too."""
    compile_quickly(engine)
    collect_rarely()
    module, offered = find_model(backend, model, ())
    case = probe_case(backend, engine, model, size, dropout=False)
    if reason := module.decline(case):
        return {"declined": reason}
    session = module.open_session(case, offered, CLASSES)
    probe = module.open_probe(session)
    arrays, facts = ask(session, probe, size, stages, rules)
    facts["rates in training"] = rates_in_training(session, probe, size)
    facts["stand_ins"], facts["engine"] = probe.stand_ins(), engine
    np.savez(Path(folder) / "answers.npz", **arrays)
    return {"twin": facts, "other twins": other_twins(backend, engine, size, folder) if others else {}}


def other_twins(backend: str, engine: str | None, size: int, folder: str) -> dict[str, Any]:
    """What drops in efficientnet-b0; arrays go to `folder`/others.npz, as resnet18's `features/i`."""
    module, offered = find_model(backend, "resnet18", ())
    session = module.open_session(probe_case(backend, engine, "resnet18", size), offered, CLASSES)
    session.load(weights(session))
    features = module.open_probe(session).features(batch(session, size)[0])
    np.savez(Path(folder) / "others.npz", **{f"features/{block}": one for block, one in enumerate(features)})
    return dropping(backend, engine, "efficientnet-b0", size)


def dropping(backend: str, engine: str | None, model: str, size: int) -> dict[str, Any]:
    """Layers that drop, with an MLP head: in stages by name, and in a case without dropout."""
    module, offered = find_model(backend, model, ())
    found: dict[str, Any] = {}
    for dropout in (True, False):
        case = probe_case(backend, engine, model, size, head="mlp", dropout=dropout)
        probe = module.open_probe(module.open_session(case, offered, CLASSES))
        for name in ("full", "half", "backbone") if dropout else ("full",):
            found[name if dropout else "no dropout"] = [
                {"place": layer[:5], "seen": msgspec.to_builtins(watch(name, layer)), "dtype": layer.draws.dtype.name}
                for layer in probe.stochastic(STAGES[name], DRAWS)
            ]
    return found


def ask(
    session: Session, probe: Probe, size: int, stages: list[str], rules: list[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Facts, and arrays: features/i, logits, gradients/stage/name, buffers/stage/name, play/rule/step/name."""
    images, labels = batch(session, size)
    start = weights(session)
    session.load(start)
    facts: dict[str, Any] = {"loss": {}, "norms": {}, "rates": {}, "precision": session.predict(images).dtype.name}
    arrays = {f"features/{block}": one for block, one in enumerate(probe.features(images))}
    arrays["logits"] = session.predict(images)
    for name in stages:
        session.load(start)
        facts["loss"][name], gradients = probe.gradients(STAGES[name], images, labels)
        facts["norms"][name] = [[*norm] for norm in probe.norms()]
        arrays |= {f"gradients/{name}/{tensor}": one for tensor, one in gradients.items()}
        arrays |= {f"buffers/{name}/{t.name}": t.array for t in session.state() if t.role in ("norm_mean", "norm_var")}
    for name in rules:
        session.load(start)
        facts["rates"][name] = []
        for step, values in enumerate(probe.play(RULES[name], FACTORS, gradients_on_tape(session))):
            facts["rates"][name].append(probe.rates())
            arrays |= {f"play/{name}/{step}/{tensor}": one for tensor, one in values.items()}
    return arrays, facts


def gradients_on_tape(session: Session) -> list[dict[str, NDArray[np.float64]]]:
    shapes = {t.name: t.array.shape for t in session.state() if t.role not in BUFFERS}
    return gradient_tape.gradients(dict(sorted(shapes.items())))[::3][:STEPS]


def weights(session: Session) -> Mapping[str, NDArray[Any]]:
    """Values that both arms can hold exactly; batch norm's are not those that hide it."""
    arrays = random_arrays(session.state(), "kaiming-normal-fan-out", 0)
    shift = random_arrays((t._replace(role="weight", array=t.array[..., None]) for t in session.state()), "", 1)
    norms = {t.name: t.role for t in session.state() if t.role.startswith("norm")}
    centre = {"norm_scale": 1.0, "norm_var": 1.0}
    moved = {name: centre.get(role, 0.0) + 0.1 * np.tanh(shift[name][..., 0]) for name, role in norms.items()}
    return {name: array.astype(np.float32) for name, array in (arrays | moved).items()}


def batch(session: Session, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images = np.random.default_rng(0).standard_normal((BATCH, size, size, 3)).astype(np.float32)
    if session.batch_layout == "nchw":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images, np.arange(BATCH, dtype=np.int64) % CLASSES


def rates_in_training(session: Session, probe: Probe, size: int, **fields: Any) -> dict[str, Any]:
    """Rates at the end of each epoch of one step, as read while the loop runs, against the schedule's."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(BATCH, dtype=np.int64) % CLASSES, np.arange(BATCH, dtype=np.int64))
    feed = Feed(
        split, batch_size=BATCH, epochs=SHORT.epochs, seed=0, image_size=size,
        normalisation=NORMALISATIONS["zero-to-one"], augmentations=(), layout=session.batch_layout,
        **fields,
    )  # fmt: skip
    read: list[Any] = []
    clock = Clock(
        steps=SHORT.epochs, batch_size=BATCH, warmup_steps=1, sync=session.sync, compile_events=session.compile_events,
        on_epoch_end=lambda epoch: read.append(probe.rates()),
    )  # fmt: skip
    session.train(SHORT, feed, clock)
    return {"read": read, "schedule": [SHORT.head_lr * f for f in factors(SHORT.schedule, SHORT.epochs, 1).tolist()]}
