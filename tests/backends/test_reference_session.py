"""The reference session through the harness's own feed, clock and audit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from backends import reference
from backends.reference.session import ReferenceSession
from harness.auditing import audit
from harness.clock import Clock
from harness.contract import BUFFERS
from harness.data.checkpoint import NORMALISATIONS, tensors_digest
from harness.data.dataset import Split
from harness.data.feed import Feed, evaluation_batches
from harness.errors import Refused
from harness.running.evaluate import quality
from harness.running.initial_weights import head_arrays, random_arrays
from harness.spec import Case, Optimizer, Scenario, Stage

MODEL = reference.MODELS["tiny-cnn"]
SIDE, CLASSES = 32, 3


def stripes(images: int, seed: int) -> Split:
    """Three classes of stripes, horizontal, vertical and slanted, of any colour and phase, under noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = draw.integers(0, CLASSES, images)
    along = np.stack([y, x, (x + y) * 0.7])[labels]
    wave = np.sin(along * draw.uniform(0.5, 1.5, (images, 1, 1)) + draw.uniform(0, 6, (images, 1, 1)))
    pixels = draw.uniform(60, 200, (images, 1, 1, 3)) + 40 * wave[..., None]
    pixels += draw.normal(0, 20, pixels.shape)
    return Split(pixels.clip(0, 255).astype(np.uint8), labels, np.arange(images))


TRAIN = stripes(192, seed=0)


def stage(**changes: Any) -> Stage:
    return Stage(**{"epochs": 1, "head_lr": 0.1, "backbone_lr": 0.05, **changes})


def case(**changes: Any) -> Case:
    scenario = Scenario(name="full", explanation="", stages=(stage(),))
    fields = {"backend": "reference", "model": "tiny-cnn", "scenario": scenario, "dataset": "stripes"}
    return Case(**{**fields, "dataset_sha256": "", "image_size": SIDE, **changes})


def opened(seed: int = 0, head: Any = "linear") -> ReferenceSession:
    session = reference.open_session(case(seed=seed, head=head), MODEL, CLASSES)
    assert isinstance(session, ReferenceSession)
    start = random_arrays(session.state(), MODEL.initialisation, seed)
    session.load(start | head_arrays(head, session.head_features, CLASSES, "default", seed))
    return session


def trained(session: ReferenceSession, declared: Stage, images: int = 64) -> Clock:
    feed = Feed(
        Split(TRAIN.images[:images], TRAIN.labels[:images], TRAIN.ids[:images]),
        batch_size=declared.batch_size,
        epochs=declared.epochs,
        seed=0,
        image_size=SIDE,
        normalisation=NORMALISATIONS["imagenet"],
        augmentations=(),
        layout=session.batch_layout,
    )
    clock = Clock(
        steps=declared.epochs * feed.steps_per_epoch,
        batch_size=declared.batch_size,
        warmup_steps=1,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=lambda epoch: None,
    )
    session.train(declared, feed, clock)
    return clock


def arrays(session: ReferenceSession) -> dict[str, Any]:
    return {tensor.name: tensor.array for tensor in session.state()}


def test_eight_epochs_learn_stripes() -> None:
    session, test = opened(), stripes(200, seed=1)
    clock = trained(session, stage(epochs=8), images=192)
    batches = evaluation_batches(test, 16, SIDE, NORMALISATIONS["imagenet"], "nhwc")
    logits = np.concatenate([session.predict(images)[:real] for images, real in batches])
    assert logits.dtype == np.float32
    assert quality(logits, test.labels).accuracy > 0.9
    assert np.mean(clock.losses[-12:]) < 0.3 * np.mean(clock.losses[:4])


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_equal_seed_and_arrays_give_equal_bytes(head: str) -> None:
    runs = []
    for seed in (4, 4, 5):
        session = opened(seed, head)
        losses = trained(session, stage(optimizer=Optimizer(name="adam"), head_lr=1e-3, backbone_lr=1e-3)).losses
        runs.append((losses, tensors_digest(arrays(session))))
    assert runs[0] == runs[1] != runs[2]


def test_a_second_stage_starts_with_fresh_optimizer_state() -> None:
    through, restarted = opened(), opened()
    trained(through, stage(head_lr=0.2))
    restarted.load(arrays(through))
    trained(through, stage(frozen="backbone"))
    trained(restarted, stage(frozen="backbone"))
    assert tensors_digest(arrays(through)) == tensors_digest(arrays(restarted))


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("norm", ["auto", "batch", "frozen"])
@pytest.mark.parametrize("frozen", ["none", 1, 2, 3, "backbone"])
def test_the_audit_finds_nothing_in_any_way_of_freezing(frozen: Any, norm: Any, rule: Any) -> None:
    session = opened()
    declared = stage(frozen=frozen, norm=norm, optimizer=Optimizer(name=rule), weight_decay=0.01)
    before = audit.mark(session.state())
    trained(session, declared)
    outcome = audit.judge(before, session.state(), declared, session.slots())
    assert outcome.breaches == ()
    assert outcome.still == ()
    assert outcome.moved == sum(
        declared.uses_batch_statistics(t.part, t.block)
        if t.role in BUFFERS
        else not declared.is_frozen(t.part, t.block)
        for t in session.state()
    )


def test_the_audit_names_a_frozen_weight_and_a_frozen_statistic_that_moved() -> None:
    session, declared = opened(), stage(frozen=2)
    before = audit.mark(session.state())
    trained(session, declared)
    moved = {name: arrays(session)[name] for name in ("features.0.0.weight", "features.1.1.running_mean")}
    for array in moved.values():
        array.flat[0] = np.nextafter(array.flat[0], np.float32(9))
    session.load(moved)
    breaches = audit.judge(before, session.state(), declared, session.slots()).breaches
    assert breaches == (
        'features.0.0.weight moved although frozen="2"',
        'features.1.1.running_mean moved although norm="auto" on a frozen backbone',
    )


def test_rate_zero_pays_for_gradients_and_moves_no_weight() -> None:
    session, declared = opened(), stage(backbone_lr=0.0, weight_decay=0.1)
    before = audit.mark(session.state())
    trained(session, declared)
    assert audit.judge(before, session.state(), declared, session.slots()).breaches == ()
    assert session.slots().keys() == {v.name for v in session.network.variables if v.role not in BUFFERS}
    for variable in session.network.variables:
        if variable.role not in BUFFERS:
            assert variable.gradient is not None and np.abs(variable.gradient).max() > 0, variable.name


@pytest.mark.parametrize("frozen", ["none", 1, "backbone"])
def test_only_trainable_tensors_have_optimizer_state(frozen: Any) -> None:
    session, declared = opened(), stage(frozen=frozen)
    assert session.slots() == {}
    trained(session, declared)
    free = {t.name for t in session.state() if t.role not in BUFFERS and not declared.is_frozen(t.part, t.block)}
    assert session.slots().keys() == free
    assert all(slots.keys() == {"momentum_buffer"} for slots in session.slots().values())


def test_what_state_yielded_stays_as_it_was_while_training_goes_on() -> None:
    session = opened()
    kept = arrays(session)
    digest = tensors_digest(kept)
    trained(session, stage())
    assert tensors_digest(kept) == digest != tensors_digest(arrays(session))
    session.load(kept)
    assert tensors_digest(arrays(session)) == digest


def test_loading_an_unknown_name_or_another_shape_raises_and_changes_nothing() -> None:
    session = opened()
    digest, good = tensors_digest(arrays(session)), np.ones((8, 3, 3, 3))
    with pytest.raises(KeyError, match="layer9"):
        session.load({"features.0.0.weight": good, "layer9.weight": good})
    with pytest.raises(ValueError, match=r"features.1.1.bias has shape \[16\], not \[8\]"):
        session.load({"features.0.0.weight": good, "features.1.1.bias": np.ones(8)})
    assert tensors_digest(arrays(session)) == digest


def test_layers_list_shapes_parameters_and_macs() -> None:
    session = opened()
    layers = {layer.name: layer for layer in session.layers()}
    assert layers["features.0.0"].output == (8, 16, 16)
    assert layers["features.0.0"].macs == 16 * 16 * 27 * 8
    assert layers["features.2.0"].output == (32, 4, 4)
    assert layers["head"][2:] == ((3,), 32 * 3 + 3, 32 * 3)
    assert sum(layer.parameters for layer in layers.values()) == 6088 + 99
    assert sum(t.array.size for t in session.state() if t.role not in BUFFERS) == 6088 + 99


def test_effective_says_what_ran() -> None:
    ran = opened().effective()
    assert (ran.device, ran.precision, ran.layout, ran.compile) == ("cpu", "fp32", "channels-last", "none")
    assert ran.threads >= 1
    assert ReferenceSession(case(), MODEL, CLASSES, np.float64).effective().precision == "fp64"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "cuda"}, "CPU"),
        ({"precision": "bf16"}, "not in bf16"),
        ({"precision": "fp16"}, "not in fp16"),
        ({"decoder": "simplejpeg"}, "--decoder"),
        ({"layout": "channels-first"}, "channels-last"),
        ({"compile": True}, "compile"),
        ({"input": "native"}, "stream"),
        ({"idiom": True}, "native defaults"),
        ({"optimizer_rule": "own"}, "native defaults"),
    ],
)
def test_what_it_cannot_do_is_declined_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    assert reason in (reference.decline(case(**changes)) or "")


@pytest.mark.parametrize("changes", [{}, {"device": "auto"}, {"input": "stream"}, {"head": "mlp"}])
def test_what_it_can_do_is_not_declined(changes: dict[str, Any]) -> None:
    assert reference.decline(case(**changes)) is None


def test_the_native_file_gives_back_the_very_logits(tmp_path: Path) -> None:
    session, other = opened(0, "mlp"), opened(1, "mlp")
    images = np.random.default_rng(0).normal(size=(5, SIDE, SIDE, 3)).astype(np.float32)
    other.load_native(str(tmp_path / session.save_native(str(tmp_path))))
    np.testing.assert_array_equal(other.predict(images), session.predict(images))


def test_export_and_import_give_back_identical_arrays_and_name_what_they_could_not_map(tmp_path: Path) -> None:
    source = {name: array for name, array in arrays(opened()).items() if not name.startswith("head")}
    source |= {"classifier.weight": np.ones((4, 32), np.float32), "classifier.bias": np.zeros(4, np.float32)}
    path = str(tmp_path / "source.npz")
    reference.export_weights({**source, "ema.decay": np.ones(1)}, MODEL, path)
    back, unmapped = reference.import_weights(path, MODEL)
    assert unmapped == ("ema.decay",)
    assert back.keys() == source.keys()
    assert tensors_digest(back) == tensors_digest(source)
    with np.load(path, allow_pickle=False) as theirs:
        np.testing.assert_array_equal(theirs["features.2.0.weight"], source["features.2.0.weight"])


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("planted"),))


@pytest.mark.parametrize("content", ["absent", "empty", "text", "truncated", "pickle", "object array", "one array"])
def test_an_unreadable_or_unsafe_file_is_refused_and_runs_no_code(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.npz"
    if content == "object array":
        with path.open("wb") as file:
            np.savez(file, **{"features.0.0.weight": np.array([Planted()], dtype=object)})
    elif content == "truncated":
        reference.export_weights(arrays(opened()), MODEL, str(path))
        path.write_bytes(path.read_bytes()[:2000])
    elif content == "one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif content != "absent":
        path.write_bytes({"empty": b"", "text": b"weights?", "pickle": pickle.dumps(Planted())}[content])
    with pytest.raises(Refused, match=r"weights.npz is not a readable .npz archive"):
        reference.import_weights(str(path), MODEL)
    assert not (tmp_path / "planted").exists()


def test_the_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "other.npz")
    reference.export_weights({"layer1.0.conv1.weight": np.ones((8, 3, 3, 3))}, MODEL, path)
    with pytest.raises(Refused, match="holds no tensor of tiny-cnn"):
        reference.import_weights(path, MODEL)


@pytest.mark.parametrize("name", ["features.0.0.weight", "features.2.1.running_var"])
def test_a_part_of_the_network_is_refused_with_what_is_missing(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "part.npz")
    source = {n: a for n, a in arrays(opened()).items() if not n.startswith("head")}
    reference.export_weights({n: a for n, a in source.items() if n != name}, MODEL, path)
    with pytest.raises(Refused, match=rf"1 of its {len(source)} tensors are missing \({name}\)"):
        reference.import_weights(path, MODEL)
    reference.export_weights({**source, name: np.ones(3, np.float32)}, MODEL, path)
    with pytest.raises(Refused, match=rf"do not fit \({name} \[3\] instead of"):
        reference.import_weights(path, MODEL)


def test_a_case_for_it_survives_json() -> None:
    sent = case(head="mlp")
    assert msgspec.json.decode(msgspec.json.encode(sent), type=Case) == sent
