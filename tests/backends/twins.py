"""One twin's answers, given in a worker: layers, logits, and the weights after a short training, all in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.clock import Clock
from harness.contract import Session
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed, normalise
from harness.plugins import find_model
from harness.running.initial_weights import COUNTER, random_arrays
from harness.spec import Case, Scenario, Stage
from tests.quickly import collect_rarely, compile_quickly

CLASSES, BATCH = 5, 8
STAGE = Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=BATCH)
LAYOUTS = {"nhwc": (0, 1, 2, 3), "nchw": (0, 3, 1, 2)}


def answers(backend: str, engine: str | None, models: list[str], sizes: list[int], folder: str) -> dict[str, Any]:
    """Write `MODEL.npz` to the worker's folder for each model, and return the layers of each size by model.

    The folder above has the arrays that both twins start from; whoever is asked first makes them. The first size is
    trained. One worker answers for several models, so that a framework starts once.
    """
    compile_quickly(engine)
    collect_rarely()
    place = Path(folder)
    return {name: _answer(backend, engine, name, sizes, place.parent / f"{name}.npz", place) for name in models}


def _answer(
    backend: str, engine: str | None, model: str, sizes: list[int], start: Path, folder: Path
) -> dict[str, list[Any]]:
    found: dict[str, NDArray[Any]] = {}
    layers = {}
    for size in sizes:
        session = _open(backend, engine, model, size)
        if not start.exists():
            np.savez(start, **_unsettled(session))
        with np.load(start) as arrays:
            session.load({tensor.name: arrays[tensor.name] for tensor in session.state()})
        listed = [layer for layer in session.layers() if layer.parameters]
        layers[str(size)] = [[one.name, list(one.output), one.parameters, one.macs] for one in listed]
        found[f"logits/{size}"] = session.predict(
            normalise(_pixels(size), NORMALISATIONS["imagenet"], _layout(session))
        )
        if size == sizes[0]:
            found |= {f"before/{t.name}": t.array for t in session.state() if not t.name.endswith(COUNTER)}
            found["losses"] = np.array(_train(session, size))
            found |= {f"after/{t.name}": t.array for t in session.state() if not t.name.endswith(COUNTER)}
    np.savez(folder / f"{model}.npz", **found)
    return layers


def _open(backend: str, engine: str | None, name: str, size: int) -> Session:
    module, model = find_model(backend, name, ())
    case = Case(
        backend=backend,
        engine=engine,
        model=name,
        scenario=Scenario(name="twins", explanation="", stages=(STAGE,)),
        dataset="noise",
        dataset_sha256="",
        image_size=size,
        precision="fp64",
        dropout=False,
    )
    assert module.decline(case) is None
    return module.open_session(case, model, CLASSES)


def _unsettled(session: Session) -> dict[str, NDArray[Any]]:
    """Random values for every tensor; norm layers too, since zeros and ones would hide an epsilon or a swap."""
    draw = np.random.default_rng(0)
    arrays = random_arrays(session.state(), "kaiming-normal-fan-out", 0)
    for tensor in session.state():
        spread = draw.uniform(-0.2, 0.2, tensor.array.shape)
        if tensor.role in ("norm_scale", "norm_var"):
            arrays[tensor.name] = 1.0 + spread
        elif tensor.role in ("norm_bias", "norm_mean", "bias"):
            arrays[tensor.name] = spread
    return arrays


def _layout(session: Session) -> Any:
    return session.batch_layout


def _pixels(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (2 * BATCH, size, size, 3)).astype(np.uint8)


def _train(session: Session, size: int) -> list[float]:
    """Two steps of the loop that is timed; the clock wants no fewer."""
    labels = np.arange(2 * BATCH) % CLASSES
    feed = Feed(
        Split(_pixels(size), labels, np.arange(2 * BATCH), None),
        batch_size=BATCH,
        epochs=1,
        seed=0,
        image_size=size,
        normalisation=NORMALISATIONS["imagenet"],
        augmentations=(),
        layout=session.batch_layout,
    )
    clock = Clock(
        steps=2,
        batch_size=BATCH,
        warmup_steps=0,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=lambda epoch: None,
    )
    session.train(STAGE, feed, clock)
    return clock.losses
