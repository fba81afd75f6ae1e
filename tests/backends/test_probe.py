"""What certificates ask of a session: every backend answers, and twins answer alike in float64."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from backends import keras3, pytorch, reference
from backends.pytorch.models import Parts
from backends.reference.layers import BatchNorm
from harness.contract import Model
from harness.process.launch import launch
from tests.backends import probing
from tests.backends.probing import BATCH, CLASSES, FACTORS, RULES, SHORT, STAGES, probe_case

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

TWIN, SIZE = "mobilenet-v2-0.35", 32
WHOLE = (["full", "first blocks"], ["sgd", "adam", "adamw"])
LAST = (["last blocks"], ["adam of the last blocks"])
ASKED = {"tensorflow": WHOLE, "jax": LAST, "torch": LAST}


class Answers(NamedTuple):
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


def skip_without(*packages: str) -> None:
    """Without importing any of them: two frameworks do not go into one process."""
    for name in packages:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@cache
def asked(place: Path, backend: str, engine: str | None) -> tuple[Answers, Answers]:
    """Everything that one framework is asked, in one worker: `answers`, and `other_twins` of two frameworks."""
    folder = place / f"{backend}-{engine}"
    stages, rules = ASKED[engine] if engine else [[*WHOLE[i], *LAST[i]] for i in (0, 1)]
    others = engine in (None, "tensorflow")
    arguments = {"backend": backend, "engine": engine, "model": TWIN, "size": SIZE, "stages": stages, "rules": rules}
    outcome = launch(
        "tests.backends.probing:answers",
        {**arguments, "others": others},
        folder=folder,
        cores=1,
        engine=engine,
        timeout_s=500,
    )
    if outcome.ending == "skipped":
        pytest.skip(outcome.reason)
    assert outcome.ending == "ok", f"{outcome.reason}\n{(folder / 'log.txt').read_text()[-3000:]}"
    facts = msgspec.json.decode(outcome.value)
    assert "declined" not in facts, facts
    return (
        Answers(facts["twin"], dict(np.load(folder / "answers.npz"))),
        Answers(facts["other twins"], dict(np.load(folder / "others.npz")) if others else {}),
    )


def answers(place: Path, backend: str, engine: str | None) -> Answers:
    return asked(place, backend, engine)[0]


def other_twins(place: Path, backend: str, engine: str | None) -> Answers:
    return asked(place, backend, engine)[1]


@pytest.fixture(params=keras3.ENGINES)
def twins(request: pytest.FixtureRequest, place: Path) -> tuple[Answers, Answers]:
    skip_without("keras", request.param)
    return answers(place, "pytorch", None), answers(place, "keras3", request.param)


def torch_tiny(image_size: int) -> Parts:
    """`tiny-cnn` in torch, as a plugin's builder would give it."""
    blocks = [
        torch.nn.Sequential(
            torch.nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), torch.nn.BatchNorm2d(o), torch.nn.ReLU()
        )
        for i, o in ((3, 8), (8, 16), (16, 32))
    ]
    modules = {
        "features": torch.nn.Sequential(*blocks),
        "pool": torch.nn.AdaptiveAvgPool2d(1),
        "flat": torch.nn.Flatten(),
    }
    backbone = torch.nn.Sequential(OrderedDict(modules))
    return Parts(backbone=backbone, features=32, blocks=tuple((block,) for block in blocks))


TINY = {
    "reference": (reference, reference.MODELS["tiny-cnn"]),
    "pytorch": (pytorch, Model(name="tiny-cnn", build=torch_tiny, classifier="classifier.", blocks=3)),
}


def tiny(backend: str, **fields: Any) -> tuple[Any, Any]:
    module, model = TINY[backend]
    session = module.open_session(probe_case(backend, None, "tiny-cnn", SIZE, **fields), model, CLASSES)
    return session, module.open_probe(session)


def tiny_answers(backend: str) -> Answers:
    stages = {"full": STAGES["full"], "first blocks": STAGES["first blocks"], "backbone": STAGES["backbone"]}
    arrays, facts = probing.ask(*tiny(backend), SIZE, list(stages), ["sgd", "adam", "adamw"])
    return Answers(facts, arrays)


def gradient_errors(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """Relative L2 per tensor; of a tensor that all but vanishes, its difference over the whole gradient."""
    assert set(ours) == set(theirs)
    total = math.hypot(*(float(np.linalg.norm(one)) for one in ours.values()))
    sizes = {name: float(np.linalg.norm(one)) for name, one in ours.items()}
    return {
        name: float(np.linalg.norm(one - theirs[name])) / (sizes[name] if sizes[name] > 1e-7 * total else total)
        for name, one in ours.items()
    }


def assert_alike(one: Answers, other: Answers) -> None:
    """Everything that `other` was asked."""
    assert other.facts["precision"] == one.facts["precision"] == "float64"
    for name, array in other.arrays.items():
        assert array.shape == one.arrays[name].shape and array.dtype == np.float64, name
        if not name.startswith("gradients"):
            scale = np.abs(one.arrays[name]).max()
            np.testing.assert_allclose(array, one.arrays[name], rtol=0, atol=1e-10 * scale, err_msg=name)
    for stage, loss in other.facts["loss"].items():
        assert loss == pytest.approx(one.facts["loss"][stage], rel=1e-10)
        errors = gradient_errors(one.under(f"gradients/{stage}/"), other.under(f"gradients/{stage}/"))
        assert max(errors.values()) < 1e-9, errors
    for rule in other.facts["rates"]:
        assert set(one.under(f"play/{rule}/")) == set(other.under(f"play/{rule}/"))


def assert_rates(found: Answers) -> None:
    for rule, rates in found.facts["rates"].items():
        stage = RULES[rule]
        expected = [{"backbone": stage.backbone_lr * factor, "head": stage.head_lr * factor} for factor in FACTORS]
        assert [pytest.approx(one, rel=1e-12) for one in expected] == rates


def test_v03_v04_v18_v19_v20_reference_and_pytorch_answer_alike_in_float64() -> None:
    one, other = tiny_answers("pytorch"), tiny_answers("reference")
    assert set(one.arrays) == set(other.arrays)
    assert_alike(one, other)
    assert one.facts["norms"] == other.facts["norms"]
    assert_rates(one)
    assert_rates(other)


def test_v04_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tiny_answers("pytorch").under("gradients/full/")
    backward = BatchNorm.backward

    def as_if_batch_statistics_were_constants(layer: Any, dy: Any, saved: Any, to_input: bool) -> Any:
        return backward(layer, dy, (*saved[:2], False), to_input)

    monkeypatch.setattr(BatchNorm, "backward", as_if_batch_statistics_were_constants)
    errors = gradient_errors(right, tiny_answers("reference").under("gradients/full/"))
    assert errors["head.weight"] < 1e-12 and errors["features.2.1.weight"] < 1e-12
    assert errors["features.0.0.weight"] > 1e-6 and errors["features.1.1.weight"] > 1e-6


def test_v04_the_gradient_predicts_how_the_loss_moves() -> None:
    session, probe = tiny("pytorch")
    images, labels = probing.batch(session, SIZE)
    start = probing.weights(session)
    session.load(start)
    _, gradients = probe.gradients(STAGES["full"], images, labels)
    slope = sum(float((one**2).sum()) for one in gradients.values())
    losses = []
    for step in (1e-5, -1e-5):
        session.load(start)
        session.load({name: start[name] + step * one for name, one in gradients.items()})
        losses.append(probe.gradients(STAGES["full"], images, labels)[0])
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_v03_v04_v18_v19_v20_pytorch_and_keras_answer_alike_in_float64(twins: tuple[Answers, Answers]) -> None:
    one, other = twins
    assert len(other.under("features/")) == 20
    assert_alike(one, other)


def test_v03_v06_features_are_taken_before_the_padding_of_the_next_block(place: Path) -> None:
    skip_without("keras", "tensorflow")
    one, other = other_twins(place, "pytorch", None), other_twins(place, "keras3", "tensorflow")
    sides = [(64, 8, 8), (64, 8, 8), (128, 4, 4), (256, 2, 2), (512,), (CLASSES,)]
    assert [array.shape for array in one.arrays.values()] == [(BATCH, *shape) for shape in sides]
    for name, array in one.arrays.items():
        np.testing.assert_allclose(other.arrays[name], array, rtol=0, atol=1e-12 * np.abs(array).max(), err_msg=name)


def test_v11_norm_layers_have_equal_constants(twins: tuple[Answers, Answers]) -> None:
    one, other = twins
    for stage, norms in other.facts["norms"].items():
        assert norms == one.facts["norms"][stage]
        assert {momentum for _, _, momentum in norms} == {STAGES[stage].bn_momentum}
        assert {eps for _, eps, _ in norms} == {1e-3}
        assert len(norms) == 52


def test_v21_rates_are_those_of_the_schedule_in_play_and_in_training(twins: tuple[Answers, Answers]) -> None:
    for found in twins:
        assert_rates(found)
        trained = found.facts["rates in training"]
        assert [rates["head"] for rates in trained["read"]] == pytest.approx(trained["schedule"], rel=1e-12)
        assert len(set(trained["schedule"])) == SHORT.epochs
        assert all(set(rates) == {"head"} for rates in trained["read"])


def test_what_stands_in_for_the_frameworks_own_parts_is_named(twins: tuple[Answers, Answers]) -> None:
    torch, keras = (found.facts["stand_ins"] for found in twins)
    assert torch == {}
    expected = {
        "keras.layers.BatchNormalization": "backends.keras3.layers.BatchNormalization",
        "keras.optimizers.SGD": "backends.keras3.optimizers.SGD",
    }
    if twins[1].facts["engine"] == "jax":  # in float64, which the answers are in
        expected["keras.layers.DepthwiseConv2D"] = "backends.keras3.depthwise.DepthwiseConv2D"
    assert keras == expected


@pytest.mark.parametrize("backend", TINY)
def test_only_what_a_stage_trains_has_a_gradient_and_is_moved(backend: str) -> None:
    found = tiny_answers(backend)
    assert set(found.under("gradients/backbone/")) == {"head.weight", "head.bias"}
    assert len(found.under("gradients/full/")) == 11
    session, probe = tiny(backend)
    stage = msgspec.structs.replace(RULES["adam"], frozen=2)
    before = {tensor.name: tensor.array for tensor in session.state()}
    names = {"features.2.0.weight", "features.2.1.weight", "features.2.1.bias", "head.weight", "head.bias"}
    for values in probe.play(stage, FACTORS, probing.gradients_on_tape(session)):
        assert set(values) == names
    moved = {tensor.name for tensor in session.state() if not np.array_equal(tensor.array, before[tensor.name])}
    assert moved == names
    assert set(session.slots()) == names


@pytest.mark.parametrize("backend", TINY)
def test_a_gradient_missing_on_the_tape_is_an_error(backend: str) -> None:
    session, probe = tiny(backend)
    tape = probing.gradients_on_tape(session)
    del tape[1]["head.bias"]
    values = probe.play(RULES["sgd"], FACTORS, tape)
    next(values)
    with pytest.raises(KeyError, match=r"head\.bias"):
        next(values)


@pytest.mark.parametrize("backend", TINY)
def test_a_changed_block_changes_its_features_and_those_after_it(backend: str) -> None:
    session, probe = tiny(backend)
    session.load(probing.weights(session))
    images, _ = probing.batch(session, SIZE)
    before = probe.features(images)
    assert [one.shape for one in before] == [(BATCH, 8, 16, 16), (BATCH, 16, 8, 8), (BATCH, 32), (BATCH, CLASSES)]
    session.load({"features.1.1.bias": np.full(16, 0.5)})
    after = probe.features(images)
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, False, False]
    np.testing.assert_array_equal(after[-1], session.predict(images))


@pytest.mark.parametrize("arm", [("pytorch", None), ("keras3", "tensorflow")])
def test_v13_what_drops_is_named_placed_and_drops_at_its_rate(place: Path, arm: tuple[str, str | None]) -> None:
    skip_without(*filter(None, arm[1:]))
    found = other_twins(place, *arm).facts
    skips = [block for block in range(16) if block not in (0, 1, 3, 5, 8, 11, 15)]
    blocks = [[f"_blocks.{block}", "backbone", block + 1, 0.2 * block / 16] for block in skips]
    expected = [*blocks, ["head.0", "head", -1, 0.25]]
    for stage in ("full", "half", "backbone"):
        assert [layer["place"][:3] for layer in found[stage]] == [one[:3] for one in expected]
        for layer, (_, part, block, rate) in zip(found[stage], expected, strict=True):
            seen, active = layer["seen"], not STAGES[stage].is_frozen(part, block)
            assert layer["place"][3:] == [pytest.approx(rate), active]
            assert layer["dtype"] == "float64"
            share = rate if active else 0.0
            assert seen["granularity"] == ("nothing" if not active else "sample" if part == "backbone" else "element")
            assert abs(seen["dropped"] - share) <= 5 * math.sqrt(share * (1 - share) / seen["units"])
            assert seen["survivor"] == pytest.approx(1 / (1 - share), rel=1e-12)
    assert [layer["place"] for layer in found["no dropout"]] == [[*one[:3], 0.0, True] for one in expected]
    assert {layer["seen"]["granularity"] for layer in found["no dropout"]} == {"nothing"}


def test_v13_the_reference_and_torch_drop_alike_in_an_mlp_head() -> None:
    for backend in TINY:
        _, probe = tiny(backend, head="mlp")
        (layer,) = probe.stochastic(STAGES["backbone"], 4000)
        assert layer[:5] == ("head.0", "head", -1, 0.25, True)
        assert layer.draws.shape == (4000, 3, 2, 2)
        assert abs((layer.draws == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / layer.draws.size)
        assert np.unique(layer.draws).tolist() == pytest.approx([0.0, 4 / 3])


@pytest.mark.parametrize("backend", TINY)
def test_norms_hold_the_stages_momentum_and_rates_are_empty_before_the_first_step(backend: str) -> None:
    session, probe = tiny(backend)
    assert probe.rates() == {}
    images, labels = probing.batch(session, SIZE)
    probe.gradients(STAGES["first blocks"], images, labels)
    assert [tuple(norm) for norm in probe.norms()] == [(f"features.{block}.1", 1e-5, 0.3) for block in range(3)]


@pytest.mark.parametrize("pipeline", ["arrays", "native"])
def test_pytorch_trains_and_predicts_in_float64(pipeline: Any) -> None:
    case = probe_case("pytorch", None, "tiny-cnn", SIZE, input=pipeline)
    assert pytorch.decline(case) is None
    session, probe = tiny("pytorch", input=pipeline)
    seen = probing.rates_in_training(session, probe, SIZE, input=pipeline)
    assert [rates["head"] for rates in seen["read"]] == pytest.approx(seen["schedule"], rel=1e-12)
    assert session.effective().precision == "fp64"
    assert {t.array.dtype.name for t in session.state()} == {"float64", "int64"}
    assert session.predict(probing.batch(session, SIZE)[0]).dtype == np.float64


def test_the_reference_runs_in_float64_and_declines_bfloat16() -> None:
    assert reference.decline(probe_case("reference", None, "tiny-cnn", SIZE)) is None
    assert "not in bf16" in str(reference.decline(probe_case("reference", None, "tiny-cnn", SIZE, precision="bf16")))
    session, _ = tiny("reference")
    assert session.effective().precision == "fp64"
    assert session.predict(probing.batch(session, SIZE)[0]).dtype == np.float64
