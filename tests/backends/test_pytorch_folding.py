"""Batch norms of a frozen part, folded into the convolutions before them: which ones, and what stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from harness.errors import Declined
from harness.spec import Stage
from tests.backends.test_pytorch import MODELS, make_case, make_feed, make_stage, open_session, train

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from backends.pytorch.models import Parts  # noqa: E402
from backends.pytorch.probing import small_network  # noqa: E402
from backends.pytorch.recipe import foldable, folded  # noqa: E402

FROZEN = make_stage(backbone_lr=0.0, frozen="backbone")
STAGES = {
    "freeze-conv": FROZEN,
    "two blocks": make_stage(frozen=2),
    "frozen norms elsewhere too": make_stage(frozen=1, norm="frozen"),
}
ARCHITECTURES = ("resnet18", "efficientnet-b0", "mobilenet-v2-0.35", small_network.MODEL.name)


def with_statistics(session: Any) -> Any:
    """Give every batch norm statistics and scales of its own, as after a long training."""
    draw = np.random.default_rng(5)
    arrays = {}
    for tensor in session.state():
        if tensor.role in ("norm_mean", "norm_bias"):
            arrays[tensor.name] = draw.normal(0, 0.3, tensor.array.shape)
        elif tensor.role in ("norm_var", "norm_scale"):
            arrays[tensor.name] = draw.uniform(0.5, 1.5, tensor.array.shape)
    session.load(arrays)
    return session


def pairs_of(session: Any, stage: Stage) -> list[Any]:
    return foldable(session.network, stage, session.black_image())


def trained(model: str, stage: Stage, **fields: Any) -> Any:
    # At 32 px a batch norm that trains has one value per image, which magnifies rounding.
    case = make_case(model, 64, precision="fp64", **fields)
    session = with_statistics(open_session(case))
    return session, train(session, case, stage)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_norm_of_a_frozen_backbone_is_folded_and_the_features_are_the_same(model: str) -> None:
    session = with_statistics(open_session(make_case(model, max(32, MODELS[model].minimum_size), precision="fp64")))
    pairs = pairs_of(session, FROZEN)
    assert len(pairs) == len({norm for _, norm in pairs}) == len(session.network.norms)
    before = {tensor.name: tensor.array.copy() for tensor in session.state()}
    side = session.case.image_size
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, side, side)))
    backbone = session.network.parts.backbone.eval()
    calls = []
    hooks = [norm.register_forward_hook(lambda *_: calls.append(1)) for _, norm in pairs]
    with torch.no_grad():
        plain = backbone(images)
        with folded(pairs):
            same = backbone(images)
            assert all(tensor.array.tobytes() == before[tensor.name].tobytes() for tensor in session.state())
        again = backbone(images)
    assert (same - plain).abs().max() < 1e-12 * plain.abs().max()
    assert not torch.equal(same, plain)  # otherwise nothing was folded
    assert torch.equal(again, plain)
    assert len(calls) == 3 * len(pairs)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("model", ["resnet18", "mobilenet-v2-0.35"])
def test_training_is_the_same_and_the_number_of_folded_norms_is_read_back(model: str, stage: Stage) -> None:
    one, plain = trained(model, stage)
    other, fast = trained(model, stage, fold_norms=True)
    assert plain.audit.breaches == fast.audit.breaches == ()
    np.testing.assert_allclose(fast.clock.losses, plain.clock.losses, rtol=1e-11)
    for a, b in zip(one.state(), other.state(), strict=True):
        assert np.abs(b.array - a.array).max() <= 1e-10 * np.abs(a.array).max(), a.name
    assert "folded_norms" not in one.effective().settings
    fixed = [n for n in other.network.norms if stage.is_frozen(n.part, n.block)]
    assert other.effective().settings["folded_norms"] == len(fixed) > 0


def test_weights_that_are_loaded_between_epochs_count() -> None:
    case = make_case("resnet18", 32, precision="fp64", fold_norms=True)
    losses = []
    for doubled in (False, True):
        session = with_statistics(open_session(case))
        stage = replace(FROZEN, epochs=2)
        feed = make_feed(session, case, stage)
        name = next(tensor.name for tensor in session.state() if tensor.role == "norm_scale")
        seen: list[float] = []

        class Ticks:
            def epoch_begin(self) -> None: ...

            def tick(self, loss: Any, seen: list[float] = seen) -> None:
                seen.append(float(loss))

            def epoch_end(self, session: Any = session, doubled: bool = doubled, name: str = name) -> None:
                if doubled:
                    session.load({t.name: 2 * t.array for t in session.state() if t.name == name})

        session.train(stage, feed, Ticks())
        losses.append(seen)
    steps = len(losses[0]) // 2
    assert losses[0][:steps] == losses[1][:steps]
    assert losses[0][steps:] != losses[1][steps:]


def test_a_stage_without_a_fixed_part_folds_nothing() -> None:
    case = make_case(small_network.MODEL.name, fold_norms=True)
    session = open_session(case)
    for stage in (make_stage(), make_stage(frozen="backbone", backbone_lr=0.0, norm="batch")):
        assert pairs_of(session, stage) == []
    for stage in (FROZEN, make_stage()):  # as `two-stage` has them
        train(session, case, stage)
    assert session.effective().settings["folded_norms"] == len(session.network.norms)


def test_a_network_without_batch_norm_is_declined() -> None:
    session = open_session(make_case("alexnet", 64, fold_norms=True))
    with pytest.raises(Declined, match=r"^no frozen convolution of alexnet .*leave out --fold-norms$"):
        pairs_of(session, FROZEN)


class Odd(nn.Module):
    """Norms whose convolution is read twice, runs twice, is followed by something else, or does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read, self.of_read = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.again, self.of_again = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.bent, self.of_bent = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: Any) -> Any:
        images = self.two(self.one(self.first(images)))
        both = self.read(images)
        images = self.of_read(both) + both
        images = self.of_again(self.again(self.again(images)))
        return self.of_bent(torch.relu(self.bent(images))).mean((2, 3))


def test_only_a_convolution_that_one_norm_alone_reads_is_folded() -> None:
    def build(_: int) -> Parts:
        odd = Odd()
        return Parts(backbone=odd, blocks=((odd,),), features=3)

    model = replace(MODELS["resnet18"], name="odd", build=build, blocks=1)
    MODELS["odd"] = model
    try:
        session = with_statistics(open_session(make_case("odd", 8, precision="fp64")))
    finally:
        del MODELS["odd"]
    odd = session.network.parts.backbone
    assert pairs_of(session, FROZEN) == [(odd.one, odd.two)]
