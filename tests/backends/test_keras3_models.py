"""The twins' networks and files: one process (this file as a program) answers for all tests, on the quickest engine."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from msgspec.structs import replace

from backends import keras3
from backends.keras3.models import maps, undrawn
from backends.keras3.weights.convert import IMAGE_SIZE
from harness.running.initial_weights import random_arrays
from harness.spec import Case, Scenario, Stage
from tests.backends.programs import answered

ENGINE = "torch" if find_spec("torch") else "tensorflow"
TWINS = ("resnet18", "efficientnet-b0")
BUILT_ONCE = {name: replace(keras3.MODELS[name], build=cache(keras3.MODELS[name].build)) for name in TWINS}
FILES = [*(("resnet18", ending) for ending in keras3.FORMATS), ("efficientnet-b0", ".keras")]
SIDE, CLASSES = 64, 3
pytestmark = pytest.mark.skipif(not find_spec("keras") or not find_spec(ENGINE), reason="keras is not installed")


@cache
def probed() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return answered(__file__, ENGINE, folder)


@pytest.mark.parametrize(("model", "ending"), FILES)
def test_a_twin_goes_through_keras_own_files_unchanged(model: str, ending: str) -> None:
    assert probed()["files"][model + ending] == {"read": True, "unmapped": [], "keras": True}


@pytest.mark.parametrize("ending", keras3.FORMATS)
def test_a_file_of_keras_applications_efficientnet_is_the_same_network_after_its_preprocessing(ending: str) -> None:
    found = probed()["applications"][ending]
    assert found["tensors"] == 309 + 2
    assert found["unmapped"] == ["normalization"] * 3  # how Keras numbers it depends on what was built before
    assert found["difference"] < 1e-5


@pytest.mark.parametrize("model", TWINS)
def test_channels_first_is_the_same_network(model: str) -> None:
    if ENGINE != "torch":
        pytest.skip("TensorFlow has no channels-first convolutions without CUDA")
    assert probed()["layouts"][model]["difference"] < 1e-4
    assert probed()["layouts"][model]["same_layers"]


def test_drop_connect_grows_linearly_and_drops_whole_samples() -> None:  # V13
    drops = probed()["drops"]["default"]
    places = [number for number in range(16) if number not in (0, 1, 3, 5, 8, 11, 15)]
    assert [rate for rate, _ in drops] == pytest.approx([0.2 * number / 16 for number in places])
    assert all(shape == [None, 1, 1, 1] for _, shape in drops)


def test_dropout_has_the_seeds_of_a_copied_network() -> None:
    copied, matched = probed()["seeds"]
    assert len(copied) == 9
    assert matched == copied


def test_without_dropout_every_rate_is_0() -> None:
    assert {rate for rate, _ in probed()["drops"]["without"]} == {0.0}


def test_drop_connect_is_off_in_frozen_blocks_and_on_elsewhere() -> None:  # V13
    assert probed()["passes_differ"] == {"none": True, "backbone": False, "15": True, "17": False}


def _case(model: str, **fields: Any) -> Case:
    nothing = Scenario(name="none", explanation="", stages=())
    return Case(
        backend="keras3",
        engine=ENGINE,
        model=model,
        scenario=nothing,
        dataset="none",
        dataset_sha256="",
        image_size=SIDE,
        **fields,
    )


def _session(model: str, **fields: Any) -> Any:
    session = keras3.open_session(_case(model, **fields), keras3.MODELS[model], CLASSES)
    arrays = random_arrays(session.state(), "torch-default", 0)
    # A bias would drown what else is in the logits of an untrained network.
    session.load({**arrays, "head.bias": np.zeros(CLASSES)})
    return session


def _read(path: str, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Import a file. That takes names and shapes from a network, and no values, so one network serves all files."""
    with patch.dict(keras3.MODELS, BUILT_ONCE):
        return keras3.import_weights(path, BUILT_ONCE[name])


def _files(name: str, folder: Path) -> dict[str, Any]:
    import keras

    model, draw = keras3.MODELS[name], np.random.default_rng(0)
    with undrawn():
        network = BUILT_ONCE[name].build(IMAGE_SIZE)
    paths = {row.variable: row for row in network.table}
    paths |= {row.variable: row for row in maps.rows("predictions", model.classifier.rstrip("."), "dense", -1)}
    shapes = {paths[v.path].name: maps.canonical_shape(v.shape, paths[v.path].layout) for v in network.backbone.weights}
    shapes |= {f"{model.classifier}weight": (10, network.backbone.output.shape[-1]), f"{model.classifier}bias": (10,)}
    arrays = {one: draw.normal(size=shape).astype(np.float32) for one, shape in shapes.items()}
    found = {}
    for ending in (ending for one, ending in FILES if one == name):
        path = str(folder / f"{name}{ending}")
        keras3.export_weights(arrays, model, path)
        back, unmapped = _read(path, name)
        if ending == ".weights.h5":
            with undrawn():
                backbone = model.build(96).backbone
                own = keras.Model(backbone.input, keras.layers.Dense(10, name="predictions")(backbone.output))
            own.load_weights(path)
        else:
            own = keras.saving.load_model(path, compile=False)
        theirs = {paths[v.path].name: maps.to_canonical(_numpy(v), paths[v.path].layout) for v in own.weights}
        found[name + ending] = {
            "read": _same(back, arrays),
            "unmapped": list(unmapped),
            "keras": _same(theirs, arrays),
        }
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in other)


def _numpy(variable: Any) -> Any:
    from backends.keras3.engine import to_numpy

    return to_numpy(variable)


def _applications(folder: Path) -> dict[str, Any]:
    import keras

    from backends.keras3.tensors import array_of

    model, draw = keras3.MODELS["efficientnet-b0"], np.random.default_rng(0)
    whole = keras.applications.EfficientNetB0(
        weights=None, input_shape=(SIDE, SIDE, 3), classes=CLASSES, classifier_activation=None
    )
    for variable in whole.weights:
        if variable.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            variable.assign(variable.value + _shift(draw, variable))
    # Its normalisation has not been adapted, so that dividing by 255 is all it does.
    images = draw.uniform(size=(4, SIDE, SIDE, 3)).astype(np.float32)
    wanted = array_of(whole(keras.ops.convert_to_tensor(images * 255), training=False))
    found = {}
    session = _session("efficientnet-b0")
    for ending in keras3.FORMATS:
        path = str(folder / f"applications{ending}")
        (whole.save_weights if ending == ".weights.h5" else whole.save)(path)
        arrays, unmapped = _read(path, "efficientnet-b0")
        session.load({name.replace(model.classifier, "head."): array for name, array in arrays.items()})
        found[ending] = {
            "tensors": len(arrays),
            "unmapped": [name.partition("/")[0].rstrip("_0123456789") for name in unmapped],
            "difference": float(np.abs(session.predict(images) - wanted).max() / np.abs(wanted).max()),
        }
    return found


def _shift(draw: np.random.Generator, variable: Any) -> Any:
    import keras

    return keras.ops.convert_to_tensor(draw.uniform(0, 0.2, variable.shape).astype(np.float32))


def _layouts(name: str) -> dict[str, Any]:
    images = np.random.default_rng(1).normal(size=(4, SIDE, SIDE, 3)).astype(np.float32)
    last = _session(name)
    wanted = last.predict(images)
    listed = last.layers()
    first = _session(name, layout="channels-first")
    given = first.predict(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    same = first.layers() == listed
    return {"difference": float(np.abs(given - wanted).max() / np.abs(wanted).max()), "same_layers": same}


def _drops(session: Any) -> list[Any]:
    import keras

    found = [layer for layer in session.model.layers if isinstance(layer, keras.layers.Dropout)]
    return [[layer.rate, layer.noise_shape] for layer in found]


def _seeds() -> list[list[Any]]:
    """Seeds of the dropout layers of a copy of a network, and of the network that gets our layers."""
    import random

    import keras

    from backends.keras3 import layers
    from backends.keras3.tensors import array_of

    found = []
    for copies in (True, False):
        random.seed(5)
        with undrawn():
            network = keras3.MODELS["efficientnet-b0"].build(SIDE)
        if copies:
            backbone = keras.models.clone_model(network.backbone)
        else:
            layers.match(network, depthwise_sums=False)
            backbone = network.backbone
        dropping = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
        found.append([array_of(layer.seed_generator.state.value).tolist() for layer in dropping])
    return found


def _passes_differ(session: Any) -> dict[str, bool]:
    """Whether four training-mode passes differ, with norm layers in inference mode: only drop-connect is random."""
    import keras

    from backends.keras3.tensors import array_of

    images = keras.ops.convert_to_tensor(np.random.default_rng(2).normal(size=(8, SIDE, SIDE, 3)).astype(np.float32))
    found = {}
    for frozen in ("none", "backbone", 15, 17):
        session.freeze(Stage(epochs=1, head_lr=0.1, backbone_lr=0.1, frozen=frozen, norm="frozen"))
        first, *others = (array_of(session.model(images, training=True)) for _ in range(4))
        found[str(frozen)] = any(not np.array_equal(first, other) for other in others)
    return found


def _answers(folder: Path) -> dict[str, Any]:
    session = _session("efficientnet-b0")
    answers: dict[str, Any] = {"passes_differ": _passes_differ(session)}
    answers["drops"] = {"default": _drops(session), "without": _drops(_session("efficientnet-b0", dropout=False))}
    answers["seeds"] = _seeds()
    answers["files"] = {key: value for name in TWINS for key, value in _files(name, folder).items()}
    answers["applications"] = _applications(folder)
    if ENGINE == "torch":  # at the end, since the layout is one for the whole process
        answers["layouts"] = {name: _layouts(name) for name in TWINS}
    return answers


if __name__ == "__main__":
    warnings.simplefilter("error")
    # Keras itself hands TensorFlow's and torch's tensors to numpy.array.
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
    print(json.dumps(_answers(Path(sys.argv[1]))))  # noqa: T201
