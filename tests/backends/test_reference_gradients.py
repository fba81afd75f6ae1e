"""The hand-written backward passes against central differences, in float64."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from backends.reference.layers import BatchNorm, Variable
from backends.reference.network import ReferenceNetwork, cross_entropy, new_head, tiny_cnn
from harness.spec import Stage

STEP = 1e-6
SMOOTHING = 0.1
DRAW = np.random.default_rng(3)
IMAGES = DRAW.normal(size=(4, 11, 11, 3))
LABELS = np.array([0, 2, 1, 2])


def network(head: Literal["linear", "mlp"] = "linear") -> ReferenceNetwork:
    backbone, features = tiny_cnn(np.float64)
    made = ReferenceNetwork([*backbone, *new_head(head, features, 3, np.float64)])
    draw = np.random.default_rng(5)
    for v in made.variables:
        v.array[...] = draw.normal(scale=0.3, size=v.array.shape) + (v.role in ("norm_scale", "norm_var"))
        if v.role == "norm_var":
            v.array[...] = np.abs(v.array) + 0.1
    return made


def stage(**changes: object) -> Stage:
    return Stage(**{"epochs": 1, "head_lr": 0.1, "backbone_lr": 0.1, **changes})  # type: ignore[arg-type]


def loss_and_gradients(net: ReferenceNetwork, declared: Stage) -> float:
    trainable = net.declare(declared, seed=11)
    logits, tape = net.forward(IMAGES, training=True)
    loss, gradient = cross_entropy(logits, LABELS, SMOOTHING)
    net.backward(gradient, tape)
    assert all(v.gradient is not None and v.gradient.shape == v.array.shape for v in trainable)
    return loss


def slope(net: ReferenceNetwork, declared: Stage, variable: Variable, direction: np.ndarray) -> float:
    """Directional derivative of the loss by two evaluations around the variable's value."""
    value, ends = variable.array.copy(), []
    for sign in (1, -1):
        variable.array[...] = value + sign * STEP * direction
        net.declare(declared, seed=11)
        ends.append(cross_entropy(net.forward(IMAGES, training=True)[0], LABELS, SMOOTHING)[0])
    variable.array[...] = value
    return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_every_gradient_is_the_slope_of_the_loss(norm: str, head: Literal["linear", "mlp"]) -> None:
    net, declared = network(head), stage(norm=norm)
    loss_and_gradients(net, declared)
    draw = np.random.default_rng(7)
    for variable in net.declare(declared, seed=11):
        assert variable.gradient is not None
        gradient = variable.gradient.copy()
        single = np.zeros(variable.array.shape)
        single.flat[draw.integers(single.size)] = 1.0
        for direction in (draw.normal(size=single.shape), draw.normal(size=single.shape), single):
            expected = slope(net, declared, variable, direction)
            assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), variable.name


@pytest.mark.parametrize("frozen", [1, 2, "backbone"])
def test_freezing_a_prefix_leaves_the_other_gradients_as_they_were_and_computes_no_more(frozen: int | str) -> None:
    whole, partly = network(), network()
    loss_and_gradients(whole, stage(norm="batch"))
    declared = stage(norm="batch", frozen=frozen)
    loss_and_gradients(partly, declared)
    trainable = set(partly.declare(declared, seed=11))
    for full, part in zip(whole.variables, partly.variables, strict=True):
        if part in trainable:
            np.testing.assert_array_equal(part.gradient, full.gradient)
        else:
            assert part.gradient is None, part.name


@pytest.mark.parametrize(("frozen", "layers"), [("none", 11), (1, 8), (2, 5), ("backbone", 1)])
def test_nothing_of_a_frozen_prefix_is_kept_for_the_backward_pass(frozen: int | str, layers: int) -> None:
    net = network()
    net.declare(stage(frozen=frozen), seed=0)
    _, tape = net.forward(IMAGES, training=True)
    assert len(tape) == layers
    assert net.forward(IMAGES)[1] == []


def test_inference_uses_running_statistics_and_moves_nothing() -> None:
    net = network("mlp")
    net.declare(stage(norm="batch"), seed=0)
    before = [v.array.copy() for v in net.variables]
    together, _ = net.forward(IMAGES)
    alone, _ = net.forward(IMAGES[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-12)
    for kept, variable in zip(before, net.variables, strict=True):
        np.testing.assert_array_equal(kept, variable.array)


def test_running_statistics_move_by_the_momentum_towards_mean_and_unbiased_variance() -> None:
    norm = BatchNorm("norm", 3, np.float64)
    norm.momentum = 0.25
    norm.forward(IMAGES, training=True)
    rows = IMAGES.reshape(-1, 3)
    np.testing.assert_allclose(norm.mean.array, 0.25 * rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(norm.variance.array, 0.75 + 0.25 * rows.var(axis=0, ddof=1), rtol=1e-12)


def test_dropout_keeps_the_mean_and_drops_the_declared_share() -> None:
    dropout = next(layer for layer in network("mlp").layers if layer.name.endswith("dropout"))
    ones = np.ones((400, 128))
    dropped, _ = dropout.forward(ones, training=True)
    assert np.unique(dropped).tolist() == [0.0, 1 / 0.75]
    assert float((dropped == 0).mean()) == pytest.approx(0.25, abs=0.01)
    assert dropout.forward(ones, training=False)[0] is ones


def test_the_loss_with_label_smoothing_is_the_cross_entropy_against_smoothed_targets() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.array([0, 1, 2, 3, 0])
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = np.eye(4)[labels] * 0.8 + 0.05
    loss, gradient = cross_entropy(logits, labels, 0.2)
    assert loss == pytest.approx(-(target * np.log(probability)).sum() / 5, rel=1e-12)
    np.testing.assert_allclose(gradient, (probability - target) / 5, rtol=1e-10)


def test_huge_logits_give_a_finite_loss() -> None:
    assert cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]), 0.0)[0] == pytest.approx(2e4)
