"""Keras' files: one process (this file as a program, on JAX, the quickest to import) answers for all tests."""

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
from backends.keras3.models import maps, mobilenet_v2, undrawn
from harness.errors import Refused
from tests.backends.programs import answered
from tests.benchmarks.publisher import write_mobilenet_v2

REAL = Path(__file__).parents[2].parent / "shared" / "weights" / "mobilenet_v2_0.35_224_imagenet_notop.weights.h5"
PUBLIC = keras3.MODELS["mobilenet-v2-0.35"]
MODEL = replace(PUBLIC, build=cache(PUBLIC.build))
"""Each file is written from one network, which gets all of its values."""
needs_real = pytest.mark.skipif(not REAL.exists(), reason="../shared/weights is not here")
ENGINE = "jax" if find_spec("jax") else "tensorflow"
pytestmark = pytest.mark.skipif(not find_spec("keras") or not find_spec(ENGINE), reason="keras is not installed")


@cache
def probed() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return answered(__file__, ENGINE, folder)


@needs_real
def test_the_real_file_gives_the_260_tensors_that_keras_itself_loads() -> None:
    assert probed()["real"] == {"tensors": 260, "unmapped": [], "equal": 260}


@pytest.mark.parametrize("ending", keras3.FORMATS)
@pytest.mark.parametrize("content", ["backbone", "classifier", "head"])
def test_writing_and_reading_give_identical_arrays_also_under_keras_own_loader(content: str, ending: str) -> None:
    assert probed()["formats"][content + ending] == {"read": True, "unmapped": [], "keras": True}


@pytest.mark.parametrize("ending", keras3.FORMATS)
def test_a_backbone_inside_another_network_is_found(ending: str) -> None:
    assert probed()["nested"][ending] == [260, True]


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("shape", ["nested", "flat"])
def test_a_head_with_a_norm_of_its_own_is_told_from_the_backbone_also_by_keras_before_3_6(
    shape: str, ending: str
) -> None:
    tensors, equal, unmapped = probed()["older"][shape + ending]
    assert (tensors, equal) == (260, True)
    # In one model with the backbone, the head's norm is the 53rd of its class; `--strict` must not fail for a head.
    assert unmapped == []


@pytest.mark.parametrize("ending", keras3.FORMATS)
@pytest.mark.parametrize("head", ["dense", "norms", "named", "preceded"])
def test_a_head_in_one_model_with_the_backbone_is_no_unexpected_tensor(head: str, ending: str) -> None:
    tensors_equal, unmapped = probed()["flat"][head + ending]
    assert tensors_equal
    # Scaling in front of the backbone is no head: it changes the inputs, so its tensors are named.
    beside = {"preceded": {"scaling"}}
    assert {name.partition("/")[0] for name in unmapped} == beside.get(head, set())


@pytest.mark.parametrize("head", ["", "one layer", "two layers", "a norm"])
def test_an_older_file_of_other_names_is_read_by_the_order_of_its_layers_and_its_head_ignored(head: str) -> None:
    assert probed()["numbered"][head] == ["read", True, []]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("deeper", "it has no features.0.0.weight (Conv1/kernel); its first tensor is layer_0/kernel"),
        ("deeper, named", "it has 1 more layers like those (block_17_expand/kernel)"),
        ("shorter", "it has no features.0.0.weight (Conv1/kernel); its first tensor is layer_1/"),
    ],
)
def test_an_older_file_with_more_or_fewer_convolutions_is_another_network(kind: str, said: str) -> None:
    (message,) = probed()["numbered"][kind]
    assert f"is not mobilenet-v2-0.35: {said}" in message


def test_half_precision_is_read_as_what_it_means() -> None:
    assert probed()["bfloat16"] == [260, True]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.weights.h5", "empty.weights.h5 is not a readable Keras file"),
        ("truncated.weights.h5", "truncated.weights.h5 is not a readable Keras file"),
        ("truncated.keras", "truncated.keras is not a readable .keras file"),
        ("absent.h5", "absent.h5 is not a readable Keras file"),
        ("other.weights.h5", "is not mobilenet-v2-0.35: it has no features.0.0.weight"),
        ("wider.weights.h5", "its features.0.0.weight has shape [24, 3, 3, 3] instead of [16, 3, 3, 3]"),
        ("nan.weights.h5", "features.3.conv.2.weight has values that are not finite"),
        ("lambda.keras", "holds a Lambda layer, which is code"),
        ("linked.h5", "is stored outside the file"),
        (
            "part.weights.h5",
            "holds only a part of mobilenet-v2-0.35: 1 of its 260 tensors are missing (f",
        ),
        ("integers.weights.h5", "1 of its 260 tensors do not fit (its features.3.conv.2.weight holds int8 instead of"),
        ("deeper.weights.h5", "it has 1 more layers like those (block_17_expand/kernel)"),
        ("two.weights.h5", "holds two whole networks, layers/functional/layers and layers/functional_1/layers"),
        ("incomplete export", "features.3.conv.2.weight, which goes to block_2_project/kernel, is missing"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(name: str, said: str) -> None:
    message = probed()["refused"][name]
    assert said in message
    assert "\n" not in message


def test_the_files_of_2018_that_keras_still_publishes_are_read_whole_as_keras_reads_them() -> None:
    assert probed()["published"] == {"read": True, "unmapped": [], "keras": True}


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    table = {row.variable: row for row in mobilenet_v2.WEIGHT_MAP}
    with undrawn():
        network = MODEL.build(32)
    rows = ((table[variable.path], variable.shape) for variable in network.backbone.weights)
    return {row.name: maps.canonical_shape(shape, row.layout) for row, shape in rows}


def _arrays(content: str, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    shapes = dict(_shapes())
    if content != "backbone":
        prefix = MODEL.classifier if content == "classifier" else "head."
        shapes |= {f"{prefix}weight": (10, 1280), f"{prefix}bias": (10,)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _same(network: Any, arrays: dict[str, Any]) -> bool:
    rows = (
        *mobilenet_v2.WEIGHT_MAP,
        *maps.rows("predictions", "classifier.1", "dense", -1),
        *maps.rows("head", "head", "dense", -1),
    )
    table = {row.variable: row for row in rows}
    found = {table[v.path].name: maps.to_canonical(v.numpy(), table[v.path].layout) for v in network.weights}
    return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)


def _formats(folder: Path) -> dict[str, Any]:
    """Each file has other values, so that networks which several files are read into cannot keep them."""
    import keras

    found = {}
    for content in ("backbone", "classifier", "head"):
        with undrawn():
            own = keras.applications.MobileNetV2(
                (224, 224, 3), 0.35, content == "classifier", None, pooling="avg", classes=10
            )
            if content == "head":
                own = keras.Model(own.input, keras.layers.Dense(10, name="head")(own.output))
        for seed, ending in enumerate(keras3.FORMATS):
            arrays = _arrays(content, seed)
            path = str(folder / f"{content}{ending}")
            keras3.export_weights(arrays, MODEL, path)
            back, unmapped = keras3.import_weights(path, MODEL)
            own.load_weights(path)
            found[content + ending] = {
                "read": back.keys() == arrays.keys() and all(np.array_equal(back[n], arrays[n]) for n in arrays),
                "unmapped": list(unmapped),
                "keras": _same(own, arrays),
            }
    return found


def _published(folder: Path) -> dict[str, Any]:
    import keras

    arrays, path = _arrays("classifier"), folder / "published.h5"
    write_mobilenet_v2(path, arrays)
    back, unmapped = keras3.import_weights(str(path), MODEL)
    with undrawn():
        own = keras.applications.MobileNetV2((224, 224, 3), 0.35, True, None, classes=10)
    own.load_weights(path)
    read = back.keys() == arrays.keys() and all(np.array_equal(back[n], arrays[n]) for n in arrays)
    return {"read": read, "unmapped": list(unmapped), "keras": _same(own, arrays)}


def _nested(folder: Path) -> dict[str, Any]:
    import keras

    arrays = _arrays("backbone")
    keras3.export_weights(arrays, MODEL, str(folder / "inner.weights.h5"))
    with undrawn():
        inner = keras.applications.MobileNetV2((96, 96, 3), 0.35, False, None)
    inner.load_weights(folder / "inner.weights.h5")
    image = keras.Input((96, 96, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inner(image))
    whole = keras.Model(image, keras.layers.Dense(3, name="top")(pooled))
    found = {}
    for ending in keras3.FORMATS:
        path = folder / f"nested{ending}"
        (whole.save_weights if ending == ".weights.h5" else whole.save)(path)
        back, _ = keras3.import_weights(str(path), MODEL)
        found[ending] = [len(back), all(np.array_equal(back[name], arrays[name]) for name in arrays)]
    return found


def _older(folder: Path) -> dict[str, Any]:
    """Files without the layers' names and with a metric's state, as Keras 3.0 to 3.5 wrote them."""
    import io
    import zipfile

    import h5py
    import keras

    arrays = _arrays("backbone")
    keras3.export_weights(arrays, MODEL, str(folder / "of-older.weights.h5"))
    with undrawn():
        inner = keras.applications.MobileNetV2((96, 96, 3), 0.35, False, None, pooling="avg")
    inner.load_weights(folder / "of-older.weights.h5")
    image = keras.Input((96, 96, 3))
    found = {}
    for shape, features in (("nested", inner(image)), ("flat", inner.output)):
        normed = keras.layers.BatchNormalization(name="of_the_head")(features)
        scores = keras.layers.Activation("softmax")(normed)
        whole = keras.Model(image if shape == "nested" else inner.input, scores)
        whole.save_weights(folder / f"{shape}-named.weights.h5")
        older = folder / f"older-{shape}.weights.h5"
        with h5py.File(folder / f"{shape}-named.weights.h5") as named, h5py.File(older, "w") as file:
            paths: list[str] = []
            named.visit(paths.append)
            for path in paths:
                if isinstance(named[path], h5py.Dataset):
                    file.create_dataset(path, data=named[path][()])
            file.create_dataset("metrics/mean_metric_wrapper/vars/0", data=np.float32(0.5))
            file.create_dataset("optimizer/vars/0", data=np.float32(0.001))
        content = io.BytesIO(older.read_bytes()).getvalue()
        with zipfile.ZipFile(older.with_name(f"older-{shape}.keras"), "w") as archive:
            archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"name": "model"}}))
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
            archive.writestr("model.weights.h5", content)
        for ending in (".weights.h5", ".keras"):
            back, unmapped = keras3.import_weights(str(older.with_name(f"older-{shape}{ending}")), MODEL)
            equal = all(np.array_equal(back[name], arrays[name]) for name in arrays)
            found[shape + ending] = [len(back), equal, list(unmapped)]
    return found


def _flat(folder: Path) -> dict[str, Any]:
    """Heads as people write them, on the backbone's output in one model, beside a metric and an optimizer."""
    import keras

    arrays, layers = _arrays("backbone"), keras.layers
    keras3.export_weights(arrays, MODEL, str(folder / "of-flat.weights.h5"))
    heads: dict[str, list[Any]] = {
        "dense": [layers.Dense(8, activation="relu"), layers.Dropout(0.2), layers.Dense(3)],
        "norms": [layers.Dense(8), layers.BatchNormalization(), layers.PReLU(), layers.LayerNormalization()],
        "named": [layers.Dense(8, name="my_features"), layers.BatchNormalization(name="bn"), layers.Dense(3, name="y")],
        "preceded": [layers.Dense(3)],
    }
    found = {}
    for name, head in heads.items():
        keras.backend.clear_session()
        image = keras.Input((32, 32, 3))
        scaled = layers.Normalization(mean=None, name="scaling")(image) if name == "preceded" else image
        with undrawn():
            inner = keras.applications.MobileNetV2((32, 32, 3), 0.35, False, None, pooling="avg", input_tensor=scaled)
        keras.Model(scaled, inner.output).load_weights(folder / "of-flat.weights.h5")
        features = inner.output
        for layer in head:
            features = layer(features)
        whole = keras.Model(image, features)
        whole.compile("adam", "mse", metrics=["accuracy"])
        for ending in keras3.FORMATS:
            path = folder / f"flat-{name}{ending}"
            (whole.save_weights if ending == ".weights.h5" else whole.save)(path)
            back, unmapped = keras3.import_weights(str(path), MODEL)
            found[name + ending] = [all(np.array_equal(back[n], arrays[n]) for n in arrays), list(unmapped)]
    return found


def _numbered(folder: Path) -> dict[str, Any]:
    """Files before Keras 3 whose layers have the names that Keras or a person gave them."""
    import h5py

    arrays = _arrays("backbone")
    with undrawn():
        layers = [layer for layer in MODEL.build(32).backbone.layers if layer.weights]
    table = {row.variable: row for row in mobilenet_v2.WEIGHT_MAP}
    whole = [
        (layer.name, {v.name: maps.fitted(arrays[table[v.path].name], table[v.path], v.shape) for v in layer.weights})
        for layer in layers
    ]
    dense = {"kernel": np.ones((1280, 4), np.float32), "bias": np.ones(4, np.float32)}
    small = {"kernel": np.ones((4, 2), np.float32)}
    norm = {name: np.ones(4, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    convolution = {"kernel": np.ones((1, 1, 112, 8), np.float32)}
    contents = {
        "": whole,
        "one layer": [*whole, ("", dense)],
        "two layers": [*whole, ("", dense), ("", small)],
        "a norm": [*whole, ("", dense), ("", norm), ("", small)],
        "deeper": [*whole, ("", convolution), ("", dense)],
        "deeper, named": [*whole, ("block_17_expand", convolution), ("mine", dense)],
        "shorter": whole[1:],
    }
    found: dict[str, Any] = {}
    for kind, content in contents.items():
        path = folder / "numbered.h5"
        with h5py.File(path, "w") as file:
            keeps = kind.endswith("named")
            first = int(kind == "shorter")
            names = [name if keeps else f"layer_{number}" for number, (name, _) in enumerate(content, first)]
            file.attrs["layer_names"] = names
            for layer, (_, variables) in zip(names, content, strict=True):
                group = file.create_group(layer)
                group.attrs["weight_names"] = [f"{layer}/{variable}:0" for variable in variables]
                for variable, values in variables.items():
                    group.create_dataset(f"{layer}/{variable}:0", data=values)
        try:
            back, unmapped = keras3.import_weights(str(path), MODEL)
        except Refused as error:
            found[kind] = [str(error)]
            continue
        found[kind] = ["read", all(np.array_equal(back[n], arrays[n]) for n in arrays), list(unmapped)]
    return found


def _bfloat16(folder: Path) -> list[Any]:
    import keras

    arrays = {name: (a.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, a in _arrays("backbone").items()}
    keras3.export_weights(arrays, MODEL, str(folder / "whole.weights.h5"))
    keras.config.set_dtype_policy("bfloat16")
    with undrawn():
        half = keras.applications.MobileNetV2((96, 96, 3), 0.35, False, None)
    keras.config.set_dtype_policy("float32")
    half.load_weights(folder / "whole.weights.h5")
    half.save_weights(folder / "half.weights.h5")
    back, _ = keras3.import_weights(str(folder / "half.weights.h5"), MODEL)
    return [len(back), all(np.array_equal(back[name], arrays[name]) for name in arrays)]


def _altered(folder: Path) -> tuple[str, ...]:
    """Copies of a sound file, each wrong in one way."""
    import shutil

    import h5py
    import keras

    names = ("part.weights.h5", "integers.weights.h5", "deeper.weights.h5")
    for name in names:
        shutil.copy(folder / "backbone.weights.h5", folder / name)
        with h5py.File(folder / name, "a") as file:
            (place,) = (
                key for key in file["layers"] if file[f"layers/{key}/vars"].attrs.get("name") == "block_2_project"
            )
            kernel = f"layers/{place}/vars/0"
            if name == "deeper.weights.h5":
                file.create_dataset("layers/conv2d_99/vars/0", data=np.ones((1, 1, 8, 8), np.float32))
                file["layers/conv2d_99/vars"].attrs["name"] = "block_17_expand"
                continue
            values = file[kernel][()]
            del file[kernel]
            if name == "integers.weights.h5":
                file.create_dataset(kernel, data=values.astype(np.int8))
    with undrawn():
        towers = [
            keras.applications.MobileNetV2((96, 96, 3), 0.35, False, None, pooling="avg", name=name)
            for name in ("left", "right")
        ]
    towers[1].load_weights(folder / "backbone.weights.h5")
    images = [keras.Input((96, 96, 3)) for _ in towers]
    joined = keras.layers.Add()([tower(image) for tower, image in zip(towers, images, strict=True)])
    keras.Model(images, joined).save_weights(folder / "two.weights.h5")
    return (*names, "two.weights.h5")


def _bad(folder: Path) -> dict[str, str]:
    import h5py
    import keras

    arrays = _arrays("backbone")
    small = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(2)])
    small.save(folder / "lambda.keras")
    small.save_weights(folder / "other.weights.h5")
    with undrawn():
        wider = keras.applications.MobileNetV2((32, 32, 3), 0.75, False, None)
    wider.save_weights(folder / "wider.weights.h5")
    (folder / "empty.weights.h5").touch()
    for whole in ("backbone.weights.h5", "backbone.keras"):
        cut = (folder / whole).read_bytes()
        (folder / whole.replace("backbone", "truncated")).write_bytes(cut[: len(cut) // 2])
    with h5py.File(folder / "linked.h5", "w") as file:
        file.attrs["layer_names"] = ["Conv1"]
        file.create_group("Conv1").attrs["weight_names"] = ["Conv1/kernel"]
        file["Conv1/Conv1/kernel"] = h5py.ExternalLink(str(folder / "backbone.h5"), "model_weights/Conv1/Conv1/kernel")
    poisoned = {**arrays, "features.3.conv.2.weight": np.full((8, 48, 1, 1), np.nan, np.float32)}
    keras3.export_weights(poisoned, MODEL, str(folder / "nan.weights.h5"))
    names = ["empty.weights.h5", "truncated.weights.h5", "truncated.keras", "absent.h5", "other.weights.h5"]
    names += ["wider.weights.h5", "nan.weights.h5", "lambda.keras", "linked.h5"]
    names += _altered(folder)
    said = {name: _refusal(lambda name=name: keras3.import_weights(str(folder / name), MODEL)) for name in names}
    del arrays["features.3.conv.2.weight"]
    said["incomplete export"] = _refusal(lambda: keras3.export_weights(arrays, MODEL, str(folder / "x.weights.h5")))
    return said


def _refusal(attempt: Any) -> str:
    try:
        attempt()
    except Refused as error:
        return str(error)
    return "accepted"


def _real() -> dict[str, Any]:
    arrays, unmapped = keras3.import_weights(str(REAL), MODEL)
    with undrawn():
        network = MODEL.build(224).backbone
    network.load_weights(REAL)
    table = {row.variable: row for row in mobilenet_v2.WEIGHT_MAP}
    equal = [
        np.array_equal(arrays[table[v.path].name], maps.to_canonical(v.numpy(), table[v.path].layout))
        for v in network.weights
    ]
    return {"tensors": len(arrays), "unmapped": unmapped, "equal": sum(equal)}


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
    place = Path(sys.argv[1])
    with patch.dict(keras3.MODELS, {MODEL.name: MODEL}):
        answers = {"formats": _formats(place), "nested": _nested(place), "refused": _bad(place)}
        answers |= {
            "numbered": _numbered(place),
            "older": _older(place),
            "flat": _flat(place),
            "bfloat16": _bfloat16(place),
        }
        answers["published"] = _published(place)
        if REAL.exists():
            answers["real"] = _real()
    print(json.dumps(answers))  # noqa: T201
