"""Sessions of the PyTorch backend: what a stage moves, what it leaves alone, and what is read back."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from backends import pytorch
from backends.pytorch.probing import small_network
from harness.auditing.audit import Audit, judge, mark
from harness.clock import Clock, NotFinite
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed, normalise
from harness.errors import Declined, Refused
from harness.running.initial_weights import head_arrays, random_arrays
from harness.schedule import factors
from harness.spec import Case, Optimizer, Scenario, Schedule, Stage

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

CLASSES = 3
MODELS = {**pytorch.MODELS, small_network.MODEL.name: small_network.MODEL}


def make_case(model: str = "resnet18", size: int = 32, **fields: Any) -> Case:
    nothing = Scenario(name="none", explanation="", stages=())
    return Case(
        backend="pytorch", model=model, scenario=nothing, dataset="d", dataset_sha256="", image_size=size, **fields
    )


def make_stage(**fields: Any) -> Stage:
    return Stage(**({"epochs": 1, "head_lr": 0.01, "backbone_lr": 0.01, "batch_size": 4} | fields))


_drawn: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
"""Initial weights of the networks that were opened."""


def open_session(case: Case, classes: int = CLASSES) -> Any:
    model = MODELS[case.model]
    session = pytorch.open_session(case, model, classes)
    key = (case.model, case.precision, case.head, classes, case.seed)
    if key not in _drawn:
        _drawn[key] = random_arrays(session.state(), model.initialisation, case.seed)
    session.load(_drawn[key])
    session.load(head_arrays(case.head, session.head_features, classes, "default", case.seed))
    return session


def make_feed(session: Any, case: Case, stage: Stage, images: int = 12) -> Feed:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (images, case.image_size, case.image_size, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(images, dtype=np.int64) % CLASSES, np.arange(images, dtype=np.int64))
    return Feed(
        split,
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        seed=0,
        image_size=case.image_size,
        normalisation=NORMALISATIONS["imagenet"],
        augmentations=case.augment,
        layout=session.batch_layout,
        input=case.input,
    )


def train(session: Any, case: Case, stage: Stage) -> SimpleNamespace:
    """One stage: its audit, its clock, and what an epoch's end saw."""
    feed = make_feed(session, case, stage)
    seen: list[np.ndarray] = []
    images = normalise(feed.split.images[:4], feed.normalisation, session.batch_layout)
    clock = Clock(
        steps=feed.steps_per_epoch * stage.epochs,
        batch_size=stage.batch_size,
        warmup_steps=1,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=lambda epoch: seen.append(session.predict(images)),
    )
    before = mark(session.state())
    session.train(stage, feed, clock)
    audit: Audit = judge(before, session.state(), stage, session.slots())
    return SimpleNamespace(audit=audit, clock=clock, logits=seen, feed=feed)


STAGES = {
    "full": make_stage(),
    "freeze-conv": make_stage(frozen="backbone"),
    "freeze-conv-live-norm": make_stage(frozen="backbone", norm="batch"),
    "freeze-conv-lr0": make_stage(backbone_lr=0.0),
    "small-lr-conv": make_stage(backbone_lr=0.001),
    "freeze-blocks": make_stage(frozen=2),
    "norm-frozen": make_stage(norm="frozen"),
    "decay": make_stage(frozen=1, weight_decay=1e-2, label_smoothing=0.1),
    "adam": make_stage(optimizer=Optimizer(name="adam"), head_lr=1e-3, backbone_lr=1e-3),
    "adamw": make_stage(optimizer=Optimizer(name="adamw"), frozen=3, weight_decay=1e-2),
}


@pytest.mark.parametrize("name", STAGES)
def test_exactly_what_a_stage_declares_moves(name: str) -> None:
    case = make_case()
    outcome = train(open_session(case), case, STAGES[name])
    assert outcome.audit.breaches == ()
    assert outcome.audit.moved > 0
    assert len(outcome.clock.losses) == 3


@pytest.mark.parametrize("model", ["efficientnet-b0", "mobilenet-v2-0.35"])
@pytest.mark.parametrize("name", ["full", "freeze-conv", "freeze-conv-live-norm", "freeze-blocks"])
def test_every_architecture_keeps_to_its_stage(model: str, name: str) -> None:
    case = make_case(model)
    assert train(open_session(case), case, STAGES[name]).audit.breaches == ()


def test_freezing_alexnet_trains_its_whole_classifier() -> None:
    case = make_case("alexnet", size=64)
    session = open_session(case)
    assert train(session, case, STAGES["freeze-conv"]).audit.breaches == ()
    assert set(session.slots()) == {
        f"{layer}.{kind}" for layer in ("classifier.1", "classifier.4", "head") for kind in ("weight", "bias")
    }


def test_optimizer_state_exists_for_trainable_tensors_only() -> None:
    case = make_case()
    session = open_session(case)
    assert session.slots() == {}
    train(session, case, STAGES["freeze-conv"])
    assert {name: set(slots) for name, slots in session.slots().items()} == {
        "head.weight": {"momentum_buffer"},
        "head.bias": {"momentum_buffer"},
    }


def test_the_frozen_part_has_no_gradient_graph_and_is_not_random() -> None:
    case = make_case("efficientnet-b0")
    session = open_session(case)
    seen: list[Any] = []
    backbone = session.network.parts.backbone
    hook = backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))
    stage = make_stage(frozen="backbone", head_lr=0.0, epochs=1, batch_size=12)
    feed = make_feed(session, case, make_stage(batch_size=4, epochs=1))
    from backends.pytorch import recipe

    recipe.fix(session.network, stage, own_momentum=False)
    recipe.set_modes(session.network, stage)
    batch = torch.from_numpy(next(feed.epoch(0)).inputs).permute(0, 3, 1, 2)
    session.network.module(batch)
    session.network.module(batch)
    hook.remove()
    assert not seen[0].requires_grad
    assert torch.equal(seen[0], seen[1])


def test_learning_rate_zero_still_pays_for_gradients() -> None:
    case = make_case()
    session = open_session(case)
    train(session, case, STAGES["freeze-conv-lr0"])
    assert float(np.abs(session.slots()["conv1.weight"]["momentum_buffer"]).max()) > 0


def test_learning_rates_follow_the_schedule_and_the_declared_ratio() -> None:
    case = make_case()
    session = open_session(case)
    stage = make_stage(epochs=2, backbone_lr=0.001, schedule=Schedule(name="cosine", warmup_steps=2))
    rates: list[list[float]] = []
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def note(optimizer: Any, arguments: Any, options: Any) -> None:
        rates.append([group["lr"] for group in optimizer.param_groups])

    handle = register_optimizer_step_pre_hook(note)
    train(session, case, stage)
    handle.remove()
    expected = factors(stage.schedule, 2, 3)
    np.testing.assert_array_equal(np.array(rates), np.stack([0.001 * expected, 0.01 * expected], axis=1))


def test_training_equals_a_plain_loop_step_by_step() -> None:
    case, stage = make_case(), make_stage(epochs=2, weight_decay=1e-3)
    session = open_session(case)
    start = {tensor.name: tensor.array for tensor in session.state()}
    losses = train(session, case, stage).clock.losses
    import torchvision

    network = torchvision.models.resnet18(num_classes=CLASSES)
    network.load_state_dict({n.replace("head.", "fc."): torch.tensor(a) for n, a in start.items()})
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    feed = make_feed(session, case, stage)
    torch.set_flush_denormal(True)
    plain = []
    for epoch in range(2):
        for batch in feed.epoch(epoch):
            optimizer.zero_grad()
            images = torch.from_numpy(batch.inputs).permute(0, 3, 1, 2)
            loss = torch.nn.functional.cross_entropy(network(images), torch.from_numpy(batch.labels))
            loss.backward()
            optimizer.step()
            plain.append(loss.item())
    torch.set_flush_denormal(False)
    assert losses == plain


def test_the_mlp_head_trains_and_its_dropout_is_seeded() -> None:
    case = make_case(head="mlp")
    first, second = (train(open_session(case), case, STAGES["freeze-conv"]).clock.losses for _ in range(2))
    other = train(open_session(make_case(head="mlp", seed=1)), case, STAGES["freeze-conv"]).clock.losses
    assert first == second != other


def test_predicting_between_epochs_changes_nothing() -> None:
    case = make_case()
    session = open_session(case)
    before = mark(session.state())
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    first, second = session.predict(images), session.predict(images)
    assert first.dtype == np.float32 and first.shape == (4, CLASSES)
    np.testing.assert_array_equal(first, second)
    assert mark(session.state()) == before


def test_state_is_a_copy_and_load_brings_it_back() -> None:
    case = make_case()
    session = open_session(case)
    kept = {tensor.name: tensor.array for tensor in session.state()}
    train(session, case, STAGES["full"])
    moved = mark(session.state())
    session.load(kept)
    again = list(session.state())
    assert all(np.array_equal(kept[t.name], t.array) and kept[t.name].dtype == t.array.dtype for t in again)
    assert mark(again) != moved
    with pytest.raises(KeyError):
        session.load({"no.such": kept["conv1.weight"]})
    with pytest.raises(ValueError, match=r"head\.weight"):
        session.load({"head.weight": np.zeros((CLASSES + 1, 512), np.float32)})


def test_the_native_file_brings_back_the_very_logits(tmp_path: Any) -> None:
    case = make_case("mobilenet-v2-0.35")
    session = open_session(case)
    train(session, case, STAGES["full"])
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    wanted = session.predict(images)
    path = str(tmp_path / session.save_native(str(tmp_path)))
    fresh = open_session(case)
    fresh.load_native(path)
    np.testing.assert_array_equal(fresh.predict(images), wanted)
    with pytest.raises(Refused, match="not a resnet18"):
        open_session(make_case()).load_native(path)
    with pytest.raises(Refused, match=r"head\.weight"):
        open_session(case, classes=5).load_native(path)


def test_layouts_agree_and_are_read_back() -> None:
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    last, first = open_session(make_case()), open_session(make_case(layout="channels-first"))
    assert (last.batch_layout, first.batch_layout) == ("nhwc", "nchw")
    a, b = last.predict(images), first.predict(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert (last.effective().layout, first.effective().layout) == ("channels-last", "channels-first")


def training(frozen: Any = "none", batch_size: int = 4, **fields: Any) -> Case:
    stage = make_stage(frozen=frozen, batch_size=batch_size)
    return msgspec.structs.replace(
        make_case(size=64, **fields), scenario=Scenario(name="one", explanation="", stages=(stage,))
    )


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (training(), 7),  # in the last two of four blocks
        (training(batch_size=16), 3),
        (training(batch_size=64), 0),
        (training(frozen=2), 7),
        (training(frozen="backbone"), 0),
        (training(layout="channels-first"), 0),
        (training(compile=True), 0),
        (training("none", model="mobilenet-v2-0.35"), 0),
    ],
)
def test_trained_convolutions_with_far_more_weights_than_inputs_are_channels_first(case: Case, count: int) -> None:
    session = open_session(case)
    convolutions = [layer for layer in session.network.module.modules() if isinstance(layer, torch.nn.Conv2d)]
    chosen = [
        layer
        for layer in convolutions
        if layer.groups == 1 and layer.kernel_size == (3, 3) and layer.weight.is_contiguous()
    ]
    assert session.effective().settings.get("channels_first_convolutions", 0) == count
    if case.layout == "channels-last" and case.model == "resnet18":
        assert len(chosen) == count
        assert session.effective().layout == "channels-last"
    outputs: list[bool] = []
    for layer in chosen:
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output.is_contiguous()))
    session.predict(np.zeros((2, 64, 64, 3) if session.batch_layout == "nhwc" else (2, 3, 64, 64), np.float32))
    assert all(outputs)


def test_the_layout_of_some_convolutions_changes_nothing_but_rounding() -> None:
    found = []
    for layout in ("channels-last", "channels-first"):
        case = training(precision="fp64", layout=layout)
        session = open_session(case)
        train(session, case, case.scenario.stages[0])
        found.append({tensor.name: tensor.array.copy() for tensor in session.state()})
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_ran_is_read_back() -> None:
    case = make_case()
    session = open_session(case)
    assert session.effective().precision == "not run"
    train(session, case, STAGES["full"])
    found = session.effective()
    assert (found.device, found.precision, found.compile, found.threads) == ("cpu", "fp32", "none", 1)
    assert found.settings["tf32_convolution"] is False and found.settings["tf32_matmul"] is False
    assert found.settings["flush_denormals"] is True and found.settings["interop_threads"] == 1
    assert (
        session.device_memory() is None and session.wall_part == "fetch+transfer+step" and session.compile_events() == 0
    )


def test_denormals_are_kept_again_after_the_session_worked() -> None:
    case = make_case()
    train(open_session(case), case, STAGES["freeze-conv"])
    assert float((torch.full((1,), 1.2e-38) * 0.1).view(torch.int32)) > 0


def test_bfloat16_runs_or_is_declined() -> None:
    case = make_case(precision="bf16")
    reason = pytorch.decline(case)
    if reason is not None:
        assert "bfloat16" in reason
        return
    session = open_session(case)
    assert train(session, case, STAGES["full"]).audit.breaches == ()
    assert session.effective().precision == "bf16"


def test_a_device_that_is_not_there_is_declined() -> None:
    reason = pytorch.decline(make_case(device="cuda"))
    assert (reason is None) == torch.cuda.is_available()
    assert reason is None or "no CUDA device" in reason
    assert pytorch.decline(make_case()) is None


def test_idiom_leaves_momentum_and_layout_as_torch_has_them() -> None:
    case = make_case("efficientnet-b0", idiom=True)
    session = open_session(case)
    train(session, case, make_stage(bn_momentum=0.5))
    assert session.batch_layout == "nchw" and session.effective().layout == "channels-first"
    assert session.network.norms[0].owner.momentum == pytest.approx(0.01)
    assert session.effective().settings["flush_denormals"] is False


def test_batch_norm_momentum_is_the_stages() -> None:
    case = make_case("efficientnet-b0")
    session = open_session(case)
    train(session, case, make_stage(bn_momentum=0.3))
    assert {entry.owner.momentum for entry in session.network.norms} == {0.3}


def test_streamed_batches_give_the_same_losses_as_ready_ones() -> None:
    case = make_case()
    ready = train(open_session(case), case, STAGES["full"]).clock.losses
    streamed = make_case(input="stream")
    assert train(open_session(streamed), streamed, STAGES["full"]).clock.losses == ready


def test_too_many_frozen_blocks_are_refused() -> None:
    case = make_case()
    with pytest.raises(Refused, match="resnet18 has 5 blocks"):
        train(open_session(case), case, make_stage(frozen=6))


def test_a_diverging_rate_names_the_step() -> None:
    case = make_case()
    with pytest.raises(NotFinite, match="not finite at step"):
        train(open_session(case), case, make_stage(head_lr=1e30, backbone_lr=1e30, epochs=2))


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_a_fused_optimizer_trains_like_torchs_choice_and_is_read_back(rule: str) -> None:
    stage = make_stage(epochs=2, optimizer=Optimizer(name=rule), weight_decay=1e-3)
    weights = []
    for fused in (False, True):
        case = make_case(small_network.MODEL.name, precision="fp64", fused=fused)
        session = open_session(case)
        train(session, case, stage)
        weights.append({tensor.name: tensor.array for tensor in session.state()})
        assert session.effective().settings.get("fused_optimizer", False) == fused
    for name, array in weights[0].items():
        # Adam divides by the size of a gradient, so rounding of a tiny one is a part of a step, here a millionth of it.
        np.testing.assert_allclose(weights[1][name], array, rtol=0, atol=1e-6 * stage.head_lr)


def test_a_model_that_does_not_say_how_its_blocks_follow_keeps_features_of_its_backbone_only() -> None:
    session = open_session(make_case())
    session.network.parts = dataclasses.replace(session.network.parts, steps=())
    images = np.zeros((2, 32, 32, 3), np.float32)
    assert session.features(images, "backbone").shape == (2, 512)
    with pytest.raises(Declined, match="does not say how its blocks are computed one by one"):
        session.features(images, 2)
