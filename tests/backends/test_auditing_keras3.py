"""The freeze audit of a user's Keras model. Each engine runs once, in a process of its own (this file as a program)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from backends import keras3
from tests.backends.programs import answered

if find_spec("keras") is None:  # importing it here would start an engine beside torch
    pytest.skip("keras is not installed", allow_module_level=True)

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in keras3.ENGINES
]
WEIGHTS = ["base/conv/kernel", "base/conv/bias", "base/norm/gamma", "base/norm/beta"]
STATISTICS = ["base/norm/moving_mean", "base/norm/moving_variance"]


@cache
def probed(engine: str) -> dict[str, Any]:
    return answered(__file__, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["full", "adam", "frozen", "frozen by layer", "frozen by predicate", "norm batch"])
def test_what_does_as_it_declares_breaches_nothing(engine: str, name: str) -> None:
    assert probed(engine)[name] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_tensors_are_named_from_the_model_down_whatever_it_is_nested_in(engine: str) -> None:
    assert probed(engine)["names"] == [*WEIGHTS, *STATISTICS, "head/kernel", "head/bias"]
    assert probed(engine)["figures"] == {"frozen": 4, "moved": 2, "paid": 2, "buffers": 2, "slots": 2}


@pytest.mark.parametrize("engine", ENGINES)
def test_v09_statistics_that_move_or_stand_still_against_the_norm_are_named(engine: str) -> None:
    assert probed(engine)["statistics moved"] == [f'{name} moved although norm="frozen"' for name in STATISTICS]
    why = 'norm="batch": Keras updates it only while its layer is trainable'
    assert probed(engine)["statistics stood"] == [f"{name} did not move although {why}" for name in STATISTICS]


@pytest.mark.parametrize("engine", ENGINES)
def test_v13_dropout_of_a_frozen_part_is_named(engine: str) -> None:
    assert probed(engine)["dropout"] == ["base/drop is random although it is frozen"]
    assert probed(engine)["dropout in inference mode"] == []
    assert probed(engine)["dropout by function"] == ["base/connect is random although it is frozen"]


@pytest.mark.parametrize("engine", ENGINES)
def test_v13_training_false_in_a_functional_model_is_judged_by_what_it_does(engine: str) -> None:
    # Keras 3.15 puts fit's own `training` in its place, so that the frozen body drops.
    found = probed(engine)["training=False in a functional model"]
    assert found["breaches"] == (["base/drop is random although it is frozen"] if found["drops"] else [])


@pytest.mark.parametrize("engine", ENGINES)
def test_v13_seeds_show_what_was_random_without_a_batch_where_the_engine_uses_them(engine: str) -> None:
    expected = [] if engine == "torch" else ["base/drop is random although it is frozen"]
    assert probed(engine)["dropout without a batch"] == expected
    assert probed(engine)["not checked"] == (["whether the frozen part is random (V13)"] if engine == "torch" else [])


@pytest.mark.parametrize("engine", ENGINES)
def test_v13_a_session_names_the_frozen_layers_that_still_drop(engine: str) -> None:
    assert probed(engine)["session"] == {"on": ["drop"], "off": [], "rate 0": [], "seed kept": True}


@pytest.mark.parametrize("engine", ENGINES)
def test_v13_asking_twice_leaves_no_trace(engine: str) -> None:
    assert probed(engine)["undisturbed"] is True


def test_v14_what_was_frozen_after_the_step_was_compiled_still_moves_on_tensorflow() -> None:
    found = probed("tensorflow")["frozen after compile"]
    why = "it is frozen: the step was compiled before it was frozen, compile again"
    assert {f"{name} moved although {why}" for name in WEIGHTS} <= set(found)
    paid = "got a gradient although it is frozen: the step was compiled while it was trainable"
    assert {f"{name} {paid}" for name in WEIGHTS} <= set(found)
    assert {f"{name} has optimizer state although it is frozen" for name in WEIGHTS} <= set(found)
    assert {f"{name} moved although it is frozen" for name in STATISTICS} <= set(found)


def test_v14_what_was_thawed_after_the_step_was_compiled_does_not_train_on_tensorflow() -> None:
    why = "it is not frozen: the optimizer was built without it, compile again"
    found = probed("tensorflow")["thawed after compile"]
    assert {f"{name} did not move although {why}" for name in WEIGHTS} <= set(found)


@pytest.mark.parametrize("engine", [ENGINES[1], ENGINES[2]])
def test_v14_other_engines_notice_or_refuse_a_change_after_compile(engine: str) -> None:
    refused = "ValueError"
    expected = {"jax": refused, "torch": [f"{name} has optimizer state although it is frozen" for name in WEIGHTS]}
    assert probed(engine)["frozen after compile"] == expected[engine]
    assert probed(engine)["thawed after compile"] == refused


@pytest.mark.parametrize("engine", ENGINES)
def test_v14_what_should_train_and_does_not_is_named_with_the_reason(engine: str) -> None:
    found = probed(engine)
    assert found["untrainable"] == [
        f"{name} did not move although it is not frozen: it is not trainable" for name in WEIGHTS
    ] + [
        f"{name} did not move although it is not frozen: Keras updates it only while its layer is trainable"
        for name in STATISTICS
    ]
    why = "did not move although it is not frozen: its learning rate is 0"
    assert found["rate 0, trained"] == [f"{name} {why}" for name in ["head/kernel", "head/bias"]]
    assert found["no step"] == [
        f"{name} did not move although it is not frozen: the optimizer made no step"
        for name in ["head/kernel", "head/bias"]
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("magnitude", ["large", "small"])
def test_v15_decay_of_frozen_tensors_in_an_optimizer_that_got_all_is_named(engine: str, magnitude: str) -> None:
    why = "it is frozen: the optimizer holds it and decays weights"
    found = probed(engine)[f"decay, {magnitude}"]
    assert f"base/conv/kernel moved although {why}" in found
    assert f"base/norm/gamma moved although {why}" in found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("magnitude", ["large", "small"])
def test_v15_stale_momentum_is_named_and_so_is_its_state(engine: str, magnitude: str) -> None:
    why = "it is frozen: the optimizer holds it and had momentum for it"
    found = probed(engine)[f"momentum, {magnitude}"]
    assert f"base/conv/kernel moved although {why}" in found
    assert {f"{name} has optimizer state although it is frozen" for name in WEIGHTS} <= set(found)


@pytest.mark.parametrize("engine", ENGINES)
def test_v16_a_learning_rate_of_zero_is_paid_for(engine: str) -> None:
    paid = "got a gradient although it is frozen: it is in model.trainable_variables, at learning rate 0"
    assert {f"{name} {paid}" for name in WEIGHTS} <= set(probed(engine)["rate 0, frozen"])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_that_was_replaced_in_name_only_is_named(engine: str) -> None:
    assert probed(engine)["name only"] == [
        "the output has width 3 although there are 10 classes",
        "head was replaced in name only: units is 10, its kernel has 3",
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_freezes_nothing_or_has_no_variables_is_an_error(engine: str) -> None:
    unknown, foreign, unbuilt = probed(engine)["errors"]
    assert unknown.startswith("frozen: 'bas' matches none of the model's 8 tensors (base/conv/kernel, ")
    assert foreign == "frozen: the layer other is not part of user"
    assert unbuilt == "lazy has no variables yet; build it or call it once before the audit"


@pytest.mark.parametrize("engine", ENGINES)
def test_seven_times_a_million_weights_are_audited_in_two_seconds_and_a_fifth_of_their_memory(engine: str) -> None:
    found = probed(engine)["cost"]
    assert found["seconds"] < 2
    assert found["grown"] < 0.2 * found["size"]
    assert found["breaches"] > 0


IMAGES = np.random.default_rng(0).random((8, 8, 8, 3), dtype=np.float32)
LABELS = np.arange(8) % 3


def _user(drop: Any = None, training: bool | None = None) -> Any:
    """A body nested in a functional model."""
    import keras

    layers = keras.layers
    body = [layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"), *([drop] if drop else [])]
    base = keras.Sequential([keras.Input((8, 8, 3)), *body], name="base")
    image = keras.Input((8, 8, 3))
    features = layers.GlobalAveragePooling2D()(base(image, training=training))
    return keras.Model(image, layers.Dense(3, name="head")(features), name="user")


def _compiled(model: Any, rule: Any = None) -> Any:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(rule or keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return model


def _frozen(*arguments: Any, **facts: Any) -> Any:
    model = _user(*arguments, **facts)
    model.get_layer("base").trainable = False
    return model


def _fit(model: Any) -> None:
    model.fit(IMAGES, LABELS, batch_size=4, epochs=1, verbose=0)


def _audited(model: Any, body: Callable[[Any], None] = _fit, **facts: Any) -> Any:
    with keras3.audit(model, **facts) as auditor:
        body(model)
    return auditor


def _breaches(*arguments: Any, **facts: Any) -> Any:
    try:
        return list(_audited(*arguments, **facts).audit.breaches)
    except ValueError as error:
        return type(error).__name__


def _clean() -> dict[str, Any]:
    import keras

    found: dict[str, Any] = {"full": _breaches(_compiled(_user()), batch=IMAGES, classes=3)}
    found["adam"] = _breaches(_compiled(_user(), keras.optimizers.AdamW(1e-3)))
    auditor = _audited(_compiled(_frozen()), frozen=["base/"], norm="frozen", batch=IMAGES, classes=3)
    figures = auditor.audit
    found["frozen"] = list(figures.breaches)
    found["names"] = [line.name for line in auditor.ledger]
    found["figures"] = {
        **{name: getattr(figures.parameters, name) for name in ("frozen", "moved", "paid")},
        "buffers": figures.buffers.frozen,
        "slots": figures.slots.total,
    }
    model = _compiled(_frozen())
    found["frozen by layer"] = _breaches(model, frozen=[model.get_layer("base")])
    found["frozen by predicate"] = _breaches(model, frozen=lambda name: not name.startswith("head"))
    model = _norm_batch(_user())
    found["norm batch"] = _breaches(_compiled(model), frozen=["base"], norm="batch", batch=IMAGES)
    return found


def _norm_batch(model: Any) -> Any:
    """Weights fixed and statistics moving: Keras follows them only in a layer that is trainable itself."""
    conv, norm = model.get_layer("base").layers[:2]
    conv.trainable = norm.gamma.trainable = norm.beta.trainable = False
    return model


def _norms() -> dict[str, Any]:
    model = _compiled(_norm_batch(_user()))
    return {
        "statistics moved": _breaches(model, frozen=["base"], norm="frozen"),
        "statistics stood": _breaches(_compiled(_frozen()), frozen=["base"], norm="batch"),
    }


def _dropping() -> dict[str, Any]:
    import keras

    class Connect(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="connect")
            self.generator = keras.random.SeedGenerator(0)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return keras.random.dropout(inputs, 0.5, seed=self.generator) if training else inputs

    def dropout() -> Any:
        return keras.layers.Dropout(0.5, name="drop")

    without = _audited(_compiled(_frozen(dropout())), frozen=["base"])
    model = _compiled(_frozen(dropout()))
    before = [np.array(variable.numpy()) for variable in _numbers(model)]
    with keras3.audit(model, frozen=["base"], norm="batch", batch=IMAGES):
        pass
    after = [np.array(variable.numpy()) for variable in _numbers(model)]
    return {
        "dropout": _breaches(_compiled(_frozen(dropout())), frozen=["base"], batch=IMAGES),
        "dropout in inference mode": _breaches(_compiled(_by_a_call(dropout())), frozen=["base"], batch=IMAGES),
        "training=False in a functional model": _functional_false(dropout()),
        "dropout by function": _breaches(_compiled(_frozen(Connect())), frozen=["base"], batch=IMAGES),
        "dropout without a batch": list(without.audit.breaches),
        "not checked": list(without.audit.unchecked),
        "undisturbed": all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)),
    }


def _session() -> dict[str, Any]:
    import keras

    from backends.keras3.engine import to_numpy
    from backends.keras3.layers import Dropout
    from backends.keras3.randomness import dropping_layers

    image = keras.Input((8, 8, 3))
    layer = Dropout(0.004, noise_shape=(None, 1, 1, 1), name="drop")  # as in the first of 55 blocks
    model = keras.Model(image, layer(keras.layers.Conv2D(4, 3)(image)))
    seed = to_numpy(layer.seed_generator.state)
    found: dict[str, Any] = {"on": dropping_layers(model, model.layers)}
    layer.active = False
    found["off"] = dropping_layers(model, model.layers)
    layer.active, layer.rate = True, 0.0
    found["rate 0"] = dropping_layers(model, model.layers)
    return {**found, "seed kept": bool((seed == to_numpy(layer.seed_generator.state)).all())}


def _by_a_call(drop: Any) -> Any:
    """The same body in a model of one's own class, which passes it in inference mode."""
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="user")
            self.base = _user(drop).get_layer("base")
            self.pool, self.head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="head")

        def call(self, images: Any) -> Any:
            return self.head(self.pool(self.base(images, training=False)))

    model = Own()
    model(IMAGES)
    model.base.trainable = False
    return model


def _functional_false(drop: Any) -> dict[str, Any]:
    """What the transfer-learning guide writes, what is said of it, and whether it drops, from outputs alone."""
    from backends.keras3.tensors import array_of

    model = _compiled(_frozen(drop, training=False))
    outputs = [array_of(model(IMAGES, training=True)) for _ in range(2)]
    return {
        "drops": not np.array_equal(*outputs),
        "breaches": _breaches(model, frozen=["base"], batch=IMAGES),
    }


def _numbers(model: Any) -> list[Any]:
    from backends.keras3.tensors import places

    return [_Number(place.variable) for place in places(model)]


class _Number:
    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def numpy(self) -> Any:
        from backends.keras3.engine import to_numpy

        return to_numpy(self._variable)


def _changes() -> dict[str, Any]:
    import keras

    model = _compiled(_user())
    _fit(model)
    model.get_layer("base").trainable = False
    found = {"frozen after compile": _breaches(model, frozen=["base"])}
    model = _compiled(_frozen())
    _fit(model)
    model.get_layer("base").trainable = True
    found["thawed after compile"] = _breaches(model)
    found["untrainable"] = _breaches(_compiled(_frozen()))
    found["rate 0, frozen"] = _breaches(_compiled(_user(), keras.optimizers.SGD(0.0)), frozen=["base"])
    found["rate 0, trained"] = _breaches(_compiled(_frozen(), keras.optimizers.SGD(0.0)), frozen=["base"])
    found["no step"] = _breaches(_compiled(_frozen()), lambda model: None, frozen=["base"])
    model = _compiled(_user())
    model.layers[-1].units = 10
    found["name only"] = _breaches(model, classes=10)
    return found


def _decay_and_momentum() -> dict[str, Any]:
    import keras

    found = {}
    for magnitude, size in (("large", 1.0), ("small", 1e-3)):
        model = _user()
        optimizer = keras.optimizers.SGD(0.1, weight_decay=size)
        step = _own_step(model, optimizer, frozen_gradient=0.0)
        found[f"decay, {magnitude}"] = _breaches(model, step, frozen=["base"], optimizer=optimizer)
        optimizer = keras.optimizers.SGD(0.1 * size, momentum=0.9)
        _own_step(model, optimizer, frozen_gradient=1.0)(model)
        step = _own_step(model, optimizer, frozen_gradient=0.0)
        found[f"momentum, {magnitude}"] = _breaches(model, step, frozen=["base"], optimizer=optimizer)
    return found


def _own_step(model: Any, optimizer: Any, frozen_gradient: float) -> Callable[[Any], None]:
    """A loop of one's own that means to freeze by a gradient of 0."""
    import keras

    def step(model: Any) -> None:
        head = model.get_layer("head").trainable_variables
        gradients = [
            keras.ops.ones(v.shape) * (1.0 if any(v is h for h in head) else frozen_gradient)
            for v in model.trainable_variables
        ]
        optimizer.apply(gradients, model.trainable_variables)

    return step


def _errors() -> list[str]:
    import keras

    found = []
    lazy = keras.Sequential([keras.layers.Dense(2)], name="lazy")
    user, other = _user(), keras.layers.Dense(1, name="other")
    for model, frozen in ((user, ["bas"]), (user, [other]), (lazy, ())):
        try:
            keras3.audit(model, frozen=frozen)
        except ValueError as error:
            found.append(str(error))
    return found


def _cost() -> dict[str, Any]:
    import threading
    import time

    import keras

    from harness.running.sensors import private_memory

    image = keras.Input((1000,))
    features = image
    for place in range(7):
        features = keras.layers.Dense(1000, name=f"dense{place}")(features)
    model = keras.Model(image, features)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    facts = {"frozen": lambda name: not name.startswith("dense6"), "optimizer": optimizer}
    _audited(model, lambda model: None, **facts)
    before, grown, over = private_memory(), [0], threading.Event()

    def sample() -> None:
        while not over.is_set():
            grown[0] = max(grown[0], private_memory() - before)
            time.sleep(0.0005)

    thread = threading.Thread(target=sample)
    thread.start()
    started = time.thread_time()
    breaches = _breaches(model, lambda model: None, **facts)
    seconds = time.thread_time() - started
    over.set()
    thread.join()
    return {"seconds": seconds, "grown": grown[0], "size": 4 * model.count_params(), "breaches": len(breaches)}


if __name__ == "__main__":
    answers = {**_clean(), **_norms(), **_dropping(), "session": _session(), **_changes(), **_decay_and_momentum()}
    print(json.dumps({**answers, "errors": _errors(), "cost": _cost()}))  # noqa: T201
