"""Twins start from the same arrays, each in a process of its own, and are held against each other in float64."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from backends import keras3
from harness.process.launch import launch

SIZES = (64, 75)
SHORT = (("resnet18", "tensorflow"), ("efficientnet-b0", "tensorflow"), ("mobilenet-v2-0.35", "tensorflow"))
MODELS = ("resnet18", "resnet34", "efficientnet-b0", "efficientnet-b3", "mobilenet-v2-0.35", "mobilenet-v2-1.4")
LONG = [(model, engine) for model in MODELS for engine in keras3.ENGINES if (model, engine) not in SHORT]
PAIRS = [*SHORT, *(pytest.param(*pair, marks=pytest.mark.long) for pair in LONG)]
pytestmark = [
    pytest.mark.skipif(
        not all(find_spec(name) for name in ("torchvision", "efficientnet_pytorch", "keras")), reason="no two backends"
    ),
    pytest.mark.timeout(900),
    pytest.mark.parametrize(("model", "engine"), PAIRS),
]


class Answer(NamedTuple):
    """What `twins.answers` returned for a model, and the arrays it wrote."""

    layers: dict[str, list[list[Any]]]
    arrays: dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twins")


def test_logits_in_float64_are_equal_to_rounding(folder: Path, model: str, engine: str) -> None:  # V03, V06
    torchs, keras = _both(folder, model, engine)
    for size in SIZES:
        one, other = (answer.arrays[f"logits/{size}"] for answer in (torchs, keras))
        assert one.dtype == other.dtype == np.float64
        assert np.abs(one - other).max() <= 1e-12 * np.abs(one).max()


def test_layers_are_equal_one_by_one(folder: Path, model: str, engine: str) -> None:  # V01
    torchs, keras = _both(folder, model, engine)
    assert keras.layers == torchs.layers
    assert [len(layer[1]) for layer in keras.layers["75"]][-1] == 1
    assert keras.layers["64"] != keras.layers["75"]


def test_training_in_float64_moves_the_same_tensors_equally(folder: Path, model: str, engine: str) -> None:  # V05, V12
    torchs, keras = (answer.arrays for answer in _both(folder, model, engine))
    assert np.abs(torchs["losses"] - keras["losses"]).max() <= 1e-10
    names = [name.removeprefix("after/") for name in torchs if name.startswith("after/")]
    buffers = [name for name in names if name.endswith(("running_mean", "running_var"))]
    for group in (buffers, [name for name in names if name not in buffers]):
        moved = max(np.abs(torchs[f"after/{name}"] - torchs[f"before/{name}"]).max() for name in group)
        apart = {name: np.abs(torchs[f"after/{name}"] - keras[f"after/{name}"]).max() for name in group}
        assert moved > 0
        assert {name: error for name, error in apart.items() if not error <= 1e-9 * moved} == {}


def _both(folder: Path, model: str, engine: str) -> tuple[Answer, Answer]:
    if not find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    together = tuple(name for name, of in SHORT if of == engine) if (model, engine) in SHORT else (model,)
    return _answers(folder, "pytorch", None, together)[model], _answers(folder, "keras3", engine, together)[model]


@cache
def _answers(folder: Path, backend: str, engine: str | None, models: tuple[str, ...]) -> dict[str, Answer]:
    place = folder / f"{models[0]}-{backend}-{engine}"
    outcome = launch(
        "tests.backends.twins:answers",
        {"backend": backend, "engine": engine, "models": models, "sizes": SIZES},
        folder=place,
        cores=1,
        engine=engine,
        timeout_s=850,
    )
    assert outcome.ending == "ok", f"{outcome.reason}\n{(place / 'log.txt').read_text()[-3000:]}"
    found = {}
    for name, layers in msgspec.json.decode(outcome.value).items():
        with np.load(place / f"{name}.npz") as arrays:
            found[name] = Answer(layers, dict(arrays))
    return found
