"""Each engine is run once, in a process of its own (this file as a program), and answers with JSON for many tests."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends import keras3
from backends.keras3.models import KerasNetwork, maps
from harness.auditing import audit
from harness.clock import Clock
from harness.contract import Model
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.running.evaluate import quality
from harness.running.initial_weights import random_arrays
from harness.spec import Augmentation, Case, Optimizer, Scenario, Stage
from tests.backends.programs import answered

SIDE, IMAGES, BATCH, CLASSES = 32, 24, 8, 4
STAGES = {
    "full": Stage(epochs=2, head_lr=0.01, backbone_lr=0.01, batch_size=BATCH, weight_decay=1e-3),
    "freeze-conv": Stage(epochs=2, head_lr=0.01, backbone_lr=0.0, frozen="backbone", batch_size=BATCH),
    "live-norm": Stage(epochs=2, head_lr=0.01, backbone_lr=0.0, frozen="backbone", norm="batch", batch_size=BATCH),
    "first-block": Stage(
        epochs=2, head_lr=0.01, backbone_lr=0.01, frozen=1, batch_size=BATCH, optimizer=Optimizer(name="adamw")
    ),
    "small-lr": Stage(epochs=2, head_lr=0.01, backbone_lr=0.001, batch_size=BATCH, label_smoothing=0.1),
    "lr0": Stage(epochs=2, head_lr=0.01, backbone_lr=0.0, batch_size=BATCH),
    "norm-frozen": Stage(epochs=2, head_lr=0.01, backbone_lr=0.01, norm="frozen", batch_size=BATCH),
}
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in keras3.ENGINES
]


@cache
def probed(engine: str) -> dict[str, Any]:
    return answered(__file__, engine, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stage", STAGES)
def test_exactly_what_a_stage_declares_moves(engine: str, stage: str) -> None:
    assert probed(engine)["breaches"][stage] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_clock_ticks_once_per_step_and_the_worker_may_evaluate_between_epochs(engine: str) -> None:
    assert probed(engine)["ticks"] == dict.fromkeys(STAGES, 6)
    assert probed(engine)["evaluations"] == {stage: [[5, CLASSES], [5, CLASSES]] for stage in STAGES}


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_compiled_after_the_first_step_of_a_stage(engine: str) -> None:
    assert set(probed(engine)["late_compilations"].values()) == {0}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_batch_is_trained_on_in_the_feeds_order_and_arrays_loaded_between_epochs_count(engine: str) -> None:
    for seen, expected in probed(engine)["losses"]:
        assert seen == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_running_variance_follows_the_unbiased_one(engine: str) -> None:
    assert probed(engine)["variance_error"] < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", ["sgd", "sgd-decay", "adam-decay", "adamw-decay"])
def test_twenty_steps_of_an_optimizer_agree_with_torchs_formulas(engine: str, rule: str) -> None:
    assert probed(engine)["optimizers"][rule] < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_slots_exist_for_trainable_tensors_only(engine: str) -> None:
    assert probed(engine)["slots"] == ["head.bias", "head.weight"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_saved_network_loads_without_this_package_and_back_into_a_session(engine: str) -> None:
    assert probed(engine)["native_file"] == "model.keras"
    assert probed(engine)["stock_difference"] < 1e-5
    assert probed(engine)["reload_difference"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_unknown_names_and_other_shapes_are_not_loaded(engine: str) -> None:
    assert probed(engine)["unknown"] == "KeyError"
    assert probed(engine)["reshaped"] == ("head.weight [4, 11] does not fit head/kernel [12, 4], which needs [4, 12]")


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_the_mlp_head_and_the_idiom_run_and_say_so(engine: str) -> None:
    other = probed(engine)["other"]
    assert (other["precision"], other["bf16_moved"]) == ("bf16", True)
    assert other["mlp"] == [f"head.{i}.{end}" for i in range(3) for end in ("weight", "bias")]
    assert other["idiom"] == "Keras' own layers and optimizers"
    assert other["idiom_breaches"] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_optimizer_and_the_layers_are_keras_own_or_matched_independently(engine: str) -> None:
    layers, own = "backends BatchNormalization", "keras BatchNormalization"
    matched, multi = "backends SGD", "keras MultiOptimizer"
    assert probed(engine)["other"]["rules"] == {
        "auto": ["matched", layers, matched],
        "own": ["Keras' own optimizers", layers, multi],
        "matched, native layers": ["Keras' own layers", own, matched],
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_a_compiled_case_trains_like_an_uncompiled_one_and_says_so_or_is_declined(engine: str) -> None:
    compiled = probed(engine)["compiled"]
    if engine == "torch":
        assert "runs eagerly; use --engine tensorflow or jax to compile" in compiled["declined"]
        return
    assert compiled["declined"] is None
    assert (compiled["ran"], compiled["late"]) == ("xla", 0)
    np.testing.assert_allclose(compiled["losses"], compiled["uncompiled"], rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_tf32_is_chosen_on_a_gpu_alone_and_read_back(engine: str) -> None:
    found = probed(engine)["tf32"]
    assert [name for name, used in found.items() if used is True] == ["cuda yes"]
    assert found["cuda no"] is found["cuda own"] is found["cpu yes"] is False


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("setting", "remedy"),
    [("tf32", "use --precision bf16"), ("fp16", "use --precision bf16"), ("mode", "leave out --compile-mode"),
     ("decoder", "leave out --decoder")],
)  # fmt: skip
def test_a_setting_of_torch_alone_is_declined_with_the_remedy(engine: str, setting: str, remedy: str) -> None:
    assert remedy in probed(engine)["tf32"][setting]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_dropout_drops_follows_the_cases_seed_alone(engine: str) -> None:
    first, again, other = probed(engine)["dropped"]
    assert first == again != other


@pytest.mark.parametrize("engine", ENGINES)
def test_in_fp64_nothing_is_rounded_to_float32_on_the_way(engine: str) -> None:
    wide = probed(engine)["wide"]
    assert wide["precision"] == "fp64"
    assert wide["types"] == ["float64"]
    for seen, expected in wide["losses"]:
        assert seen == pytest.approx(expected, rel=1e-12)
    assert wide["variance_error"] < 1e-13
    assert max(wide["optimizers"].values()) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_chosen_engine_is_imported_and_no_pandas(engine: str) -> None:
    assert probed(engine)["imported"] == [engine]


def test_tf_data_delivers_every_sample_at_most_once_per_epoch_and_is_counted() -> None:
    found = probed("tensorflow")["pipeline"]
    assert found["seen"] == found["seen_files"] == [2, 2]
    assert found["decoded_difference"] < 2 / 255 * 2


def test_mobilenet_v2_has_the_published_macs_and_moves_as_declared() -> None:
    found = probed("torch")["mobilenet"]
    assert 0.30e9 < found["macs"] < 0.31e9
    assert found["tensors"] == 262
    assert found["breaches"] == []


def _tiny(size: int) -> KerasNetwork:
    import keras

    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", name="stem")(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="stem_norm", epsilon=1e-5)(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth")(x)
    x = keras.layers.BatchNormalization(name="depth_norm")(x)
    x = keras.layers.Conv2D(12, 1, name="point")(keras.layers.Dropout(0.1)(x))
    table = (
        *maps.rows("stem", "stem", "conv", 0),
        *maps.rows("stem_norm", "stem_norm", "norm", 0),
        *maps.rows("depth", "depth", "depthwise", 1, bias=False),
        *maps.rows("depth_norm", "depth_norm", "norm", 1),
        *maps.rows("point", "point", "conv", 2),
    )
    return KerasNetwork(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)), table)


TINY = Model(name="tiny", build=_tiny, classifier="fc.", blocks=3)


def _case(engine: str, *stages: Stage, **fields: Any) -> Case:
    scenario = Scenario(name="probe", explanation="", stages=stages)
    case = {"backend": "keras3", "model": "tiny", "dataset": "noise", "dataset_sha256": "0", "image_size": SIDE}
    return Case(**{**case, "engine": engine, "scenario": scenario, **fields})


def _open(case: Case, model: Model = TINY) -> Any:
    """A session with arrays drawn as the harness draws them; an idiomatic one begins with Keras' own."""
    session = keras3.open_session(case, model, CLASSES)
    if not case.idiom:
        session.load(random_arrays(session.state(), "torch-default", 0))
    return session


def _split(files: tuple[str, ...] | None = None) -> Split:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
    return Split(images, draw.integers(0, CLASSES, IMAGES), np.arange(IMAGES), files)


def _feed(session: Any, stage: Stage, files: tuple[str, ...] | None = None, **fields: Any) -> Feed:
    facts = {"normalisation": NORMALISATIONS["minus-one-to-one"], "augmentations": (), "seed": 3, **fields}
    return Feed(
        _split(files),
        batch_size=BATCH,
        epochs=stage.epochs,
        image_size=SIDE,
        layout=session.batch_layout,
        **facts,
    )


def _train(session: Any, stage: Stage, feed: Feed, end: Callable[[int], None] = lambda epoch: None) -> Clock:
    clock = Clock(
        steps=feed.steps_per_epoch * stage.epochs,
        batch_size=BATCH,
        warmup_steps=1,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=end,
    )
    session.train(stage, feed, clock)
    return clock


def _stages(session: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"breaches": {}, "ticks": {}, "evaluations": {}, "late_compilations": {}}
    start = {tensor.name: tensor.array for tensor in session.state()}
    session.predict(np.zeros((5, SIDE, SIDE, 3), np.float32))
    for name, stage in STAGES.items():
        session.load(start)
        before, evaluations = audit.mark(session.state()), []

        def evaluate(epoch: int, shapes: list[Any] = evaluations) -> None:
            shapes.append(session.predict(np.zeros((5, SIDE, SIDE, 3), np.float32)).shape)
            session.load({tensor.name: tensor.array for tensor in session.state()})

        clock = _train(session, stage, _feed(session, stage), evaluate)
        judged = audit.judge(before, session.state(), stage, session.slots())
        found["breaches"][name] = list(judged.breaches)
        found["ticks"][name] = len(clock.step_ns)
        found["evaluations"][name] = evaluations
        found["late_compilations"][name] = sum(w.compile_events for w in clock.windows() if w.kind == "throughput")
        if name == "freeze-conv":
            found["slots"] = sorted(session.slots())
    return found


def _losses(session: Any) -> list[Any]:
    pairs = []
    for smoothing in (0.0, 0.2):
        stage = Stage(
            epochs=2, head_lr=0.0, backbone_lr=0.0, frozen="backbone", batch_size=BATCH, label_smoothing=smoothing
        )
        expected: list[float] = []

        def expect(
            epoch: int, stage: Stage = stage, smoothing: float = smoothing, expected: list[float] = expected
        ) -> None:
            for batch in _feed(session, stage).epoch(epoch):
                logits = np.concatenate([session.predict(batch.inputs[i : i + 4]) for i in (0, 4)])
                uniform = np.mean([quality(logits, np.full(BATCH, c)).loss for c in range(CLASSES)])
                right = quality(logits, batch.labels).loss
                expected.append(float((1 - smoothing) * right + smoothing * uniform))

        def shift_the_head(epoch: int, expect: Callable[[int], None] = expect) -> None:
            session.load({"head.bias": np.arange(CLASSES, dtype=np.float32) * (epoch + 1)})
            if epoch == 0:
                expect(1)

        expect(0)
        clock = _train(session, stage, _feed(session, stage), shift_the_head)
        pairs.append([clock.losses, expected])
    return pairs


def _variance_error(dtype: str = "float32") -> float:
    from keras import ops

    from backends.keras3.engine import to_numpy
    from backends.keras3.layers import BatchNormalization

    layer = BatchNormalization(momentum=0.9)
    x = np.random.default_rng(1).normal(3, 2, (4, 2, 2, 5)).astype(dtype)
    layer(ops.convert_to_tensor(x), training=True)
    return float(np.abs(to_numpy(layer.moving_variance) - (0.9 + 0.1 * x.var(axis=(0, 1, 2), ddof=1))).max())


def _optimizers(dtype: str = "float32") -> dict[str, float]:
    rules = {
        "sgd": (Optimizer(), 0.0),
        "sgd-decay": (Optimizer(), 0.1),
        "adam-decay": (Optimizer(name="adam"), 0.1),
        "adamw-decay": (Optimizer(name="adamw"), 0.1),
    }
    return {name: _tape(*rule, dtype) for name, rule in rules.items()}


def _tape(rule: Optimizer, decay: float, dtype: str) -> float:
    """Largest relative difference after 20 steps on a fixed tape, with small gradients and a drop of the rate."""
    import keras
    from keras import ops

    from backends.keras3.engine import to_numpy
    from backends.keras3.optimizers import matched

    draw = np.random.default_rng(2)
    starts = [draw.normal(size=6) for _ in range(2)]
    rates, factors = [0.1, 0.01], np.where(np.arange(20) < 9, 1.0, 0.1)
    scale = np.array([1, 1e-1, 1e-3, 1e-5, 1e-6, 1e-7])
    gradients = [[draw.normal(size=6) * scale for _ in starts] for _ in range(20)]
    variables = [keras.Variable(s.astype(dtype), dtype=dtype, name=f"v{i}") for i, s in enumerate(starts)]
    optimizer = matched(rule, decay, factors, {v.path: r for v, r in zip(variables, rates, strict=True)})
    optimizer.build(variables)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(g.astype(dtype)) for g in step], variables)
    worst = 0.0
    for i, variable in enumerate(variables):
        expected = _torchs(rule, decay, starts[i], [g[i] for g in gradients], rates[i] * factors)
        worst = max(worst, float(np.abs((to_numpy(variable) - expected) / np.abs(expected).max()).max()))
    return worst


def _torchs(rule: Optimizer, decay: float, p: Any, gradients: list[Any], rates: Any) -> Any:
    p, momentum, velocity = p.copy(), np.zeros_like(p), np.zeros_like(p)
    first, second = rule.betas
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        if rule.name == "adamw":
            p = p * (1 - rate * decay)
        else:
            g = g + decay * p  # noqa: PLW2901
        if rule.name == "sgd":
            momentum = rule.momentum * momentum + g
            p = p - rate * momentum
        else:
            momentum = first * momentum + (1 - first) * g
            velocity = second * velocity + (1 - second) * g**2
            denominator = np.sqrt(velocity) / np.sqrt(1 - second**t) + rule.eps
            p = p - rate / (1 - first**t) * momentum / denominator
    return p


def _files(session: Any, engine: str, folder: Path) -> dict[str, Any]:
    import keras

    images = np.random.default_rng(4).normal(size=(5, SIDE, SIDE, 3)).astype(np.float32)
    logits = session.predict(images)
    name = session.save_native(str(folder))
    stock = keras.saving.load_model(folder / name, compile=False)
    found: dict[str, Any] = {
        "native_file": name,
        "stock_difference": float(np.abs(np.asarray(stock.predict_on_batch(images)) - logits).max()),
    }
    session.load({"head.bias": np.ones(CLASSES, np.float32)})
    session.load_native(str(folder / name))
    found["reload_difference"] = float(np.abs(session.predict(images) - logits).max())
    try:
        session.load({"nowhere": np.zeros(1)})
    except KeyError:
        found["unknown"] = "KeyError"
    try:
        session.load({"head.weight": np.zeros((CLASSES, 11), np.float32)})
    except ValueError as error:
        found["reshaped"] = str(error)
    return found


def _pipeline(session: Any, folder: Path) -> dict[str, Any]:
    from PIL import Image

    from backends.keras3 import native

    files = tuple(str(folder / f"{i}.png") for i in range(IMAGES))
    for file, image in zip(files, _split().images, strict=True):
        Image.fromarray(image).save(file)
    names = ("random-resized-crop", "flip", "rotation", "shear", "centre-crop")
    augmentations = tuple(Augmentation(name=name) for name in names)
    stage, found = STAGES["freeze-conv"], {}
    for key, listed in (("seen", None), ("seen_files", files)):
        feed = _feed(session, stage, listed, input="native", augmentations=augmentations)
        _train(session, stage, feed)
        found[key] = feed.delivered.samples_seen
    plain = _feed(session, stage, files, input="native")
    decoded = sorted(float(np.mean(image)) for images, _ in native.Pipeline(plain).epoch(0) for image in images.numpy())
    arrays = sorted(float(np.mean(i)) for batch in _feed(session, stage).epoch(0) for i in batch.inputs)
    found["decoded_difference"] = float(np.abs(np.array(decoded) - arrays).max())
    return found


def _other(engine: str) -> dict[str, Any]:
    two_rates = STAGES["small-lr"]
    idiom = _open(_case(engine, two_rates, idiom=True))
    before = audit.mark(idiom.state())
    _train(idiom, two_rates, _feed(idiom, two_rates))
    breaches = list(audit.judge(before, idiom.state(), two_rates, idiom.slots()).breaches)
    rules = {}
    for name, facts in (
        ("auto", {}),
        ("own", {"optimizer_rule": "own"}),
        ("matched, native layers", {"idiom": True, "optimizer_rule": "matched"}),
    ):
        session = _open(_case(engine, two_rates, **facts))
        session.compile_stage(two_rates, np.ones(1))
        settings = session.effective().settings
        kinds = [str(settings[key]).split(".") for key in ("batch_norm", "optimizer")]
        rules[name] = [settings["mode"], *(f"{parts[0]} {parts[-1]}" for parts in kinds)]
    half = _open(_case(engine, two_rates, precision="bf16", head="mlp"))
    before = audit.mark(half.state())
    _train(half, two_rates, _feed(half, two_rates))
    return {
        "idiom": idiom.effective().settings["mode"],
        "idiom_breaches": breaches,
        "rules": rules,
        "precision": half.effective().precision,
        "bf16_moved": audit.judge(before, half.state(), two_rates, half.slots()).moved > 10,
        "mlp": [tensor.name for tensor in half.state() if tensor.part == "head"],
    }


def _compiled(engine: str) -> dict[str, Any]:
    stage = STAGES["small-lr"]
    case = _case(engine, stage, compile=True, dropout=False)
    found: dict[str, Any] = {"declined": keras3.decline(case)}
    if found["declined"]:
        return found
    plain, session = (_open(replace(case, compile=wanted)) for wanted in (False, True))
    session.load({tensor.name: tensor.array for tensor in plain.state()})
    found["uncompiled"] = list(_train(plain, stage, _feed(plain, stage)).losses)
    clock = _train(session, stage, _feed(session, stage))
    late = sum(window.compile_events for window in clock.windows() if window.kind == "throughput")
    return {**found, "losses": list(clock.losses), "late": late, "ran": session.effective().compile}


def _dropped(engine: str, seed: int) -> list[float]:
    session = _open(_case(engine, STAGES["lr0"], head="mlp", seed=seed))
    session.load({t.name: np.full(t.array.shape, 0.1, np.float32) for t in session.state() if t.role == "weight"})
    return _train(session, STAGES["lr0"], _feed(session, STAGES["lr0"])).losses


def _tf32(case: Case) -> dict[str, Any]:
    """Whether each of these engines uses TF32; the GPU is planted, and nothing is computed on it."""
    from backends.keras3.engine import Device, Engine

    choices = {"yes": True, "no": False, "own": None}
    found: dict[str, Any] = {
        f"{kind} {name}": Engine(Device(kind, "planted"), case.threads, tf32_allowed=allowed).uses_tf32()
        for kind in ("cpu", "cuda")
        for name, allowed in choices.items()
    }
    cases = {"tf32": {"precision": "tf32"}, "fp16": {"precision": "fp16"}}
    cases |= {"mode": {"compile": True, "compile_mode": "max-autotune"}, "decoder": {"decoder": "simplejpeg"}}
    return found | {name: keras3.decline(replace(case, **fields)) for name, fields in cases.items()}


def _wide(engine: str) -> dict[str, Any]:
    session = _open(_case(engine, STAGES["small-lr"], precision="fp64"))
    found: dict[str, Any] = {"precision": session.effective().precision, "losses": _losses(session)}
    _train(session, STAGES["first-block"], _feed(session, STAGES["first-block"]))
    arrays = [tensor.array for tensor in session.state()]
    arrays += [slot for slots in session.slots().values() for slot in slots.values()]
    arrays.append(session.predict(np.zeros((5, SIDE, SIDE, 3), np.float32)))
    found["types"] = sorted({str(array.dtype) for array in arrays})
    return {**found, "variance_error": _variance_error("float64"), "optimizers": _optimizers("float64")}


def _mobilenet(engine: str) -> dict[str, Any]:
    stage = Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, frozen=7, batch_size=BATCH)
    session = _open(_case(engine, stage), keras3.MODELS["mobilenet-v2-0.35"])
    before = audit.mark(session.state())
    _train(session, stage, _feed(session, stage))
    judged = audit.judge(before, session.state(), stage, session.slots())
    full = keras3.open_session(_case(engine, stage, image_size=224), keras3.MODELS["mobilenet-v2"], 1000)
    macs = sum(layer.macs for layer in full.layers())
    return {"breaches": list(judged.breaches), "macs": macs, "tensors": judged.moved + judged.fixed}


def _probe(engine: str) -> dict[str, Any]:
    import tempfile

    warnings.simplefilter("error")
    # Keras itself hands TensorFlow's and torch's tensors to numpy.array.
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
    case = _case(engine, STAGES["full"])
    assert keras3.decline(case) is None
    session = _open(case)
    found = {**_stages(session), "losses": _losses(session), "variance_error": _variance_error()}
    found["optimizers"] = _optimizers()
    with tempfile.TemporaryDirectory() as folder:
        found |= _files(session, engine, Path(folder))
        if engine == "tensorflow":
            found["pipeline"] = _pipeline(session, Path(folder))
    found["other"] = _other(engine)
    found["compiled"] = _compiled(engine)
    found["imported"] = [name for name in (*keras3.ENGINES, "pandas") if name in sys.modules]
    if engine == "torch":
        found["mobilenet"] = _mobilenet(engine)
    found["dropped"] = [_dropped(engine, seed) for seed in (1, 1, 2)]
    found["wide"] = _wide(engine)
    found["tf32"] = _tf32(case)  # last, because it changes the engine's settings
    return found


if __name__ == "__main__":
    print(json.dumps(_probe(sys.argv[1])))  # noqa: T201
