"""What moved, held against what the stage declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.audit import Audit, judge, mark
from harness.contract import BUFFERS, Role, Tensor
from harness.spec import Optimizer, Part, Stage

Slots = Mapping[str, Mapping[str, Any]]


def stage(**changes: Any) -> Stage:
    return Stage(**{"epochs": 1, "head_lr": 0.1, "backbone_lr": 0.01, **changes})


def network() -> list[Tensor]:
    """Three blocks of a convolution and a batch norm, and a linear head."""
    draw = np.random.default_rng(0)
    tensors: list[Tensor] = []

    def add(name: str, shape: tuple[int, ...], role: Role, part: Part = "backbone", block: int = -1) -> None:
        tensors.append(Tensor(name, draw.normal(size=shape).astype(np.float32), part, block, role))

    for block in range(3):
        add(f"layer{block}.weight", (4, 3, 2, 2), "weight", block=block)
        for name, role in (("weight", "norm_scale"), ("bias", "norm_bias"), ("mean", "norm_mean"), ("var", "norm_var")):
            add(f"layer{block}.bn.{name}", (4,), role, block=block)  # type: ignore[arg-type]
        tensors.append(Tensor(f"layer{block}.bn.count", np.array(0), "backbone", block, "counter"))
    add("head.weight", (2, 4), "weight", "head")
    add("head.bias", (2,), "bias", "head")
    return tensors


def should_move(tensor: Tensor, declared: Stage) -> bool:
    if tensor.role in BUFFERS:
        return declared.uses_batch_statistics(tensor.part, tensor.block)
    return not declared.is_frozen(tensor.part, tensor.block) and declared.learning_rate(tensor.part) > 0


def moved(tensor: Tensor) -> Tensor:
    """The same tensor with one element one bit further."""
    array = tensor.array.copy()
    array.flat[-1] = array.flat[-1] + 1 if array.dtype.kind == "i" else np.nextafter(array.flat[-1], np.float32(9))
    return tensor._replace(array=array)


def honest(tensors: list[Tensor], declared: Stage) -> tuple[list[Tensor], Slots]:
    after = [moved(t) if should_move(t, declared) else t for t in tensors]
    free = [t for t in tensors if t.role not in BUFFERS and not declared.is_frozen(t.part, t.block)]
    return after, {t.name: {"momentum_buffer": np.ones_like(t.array)} for t in free}


def outcome(after: list[Tensor], declared: Stage, slots: Slots) -> Audit:
    return judge(mark(network()), after, declared, slots)


stages = st.builds(
    stage,
    frozen=st.sampled_from(["none", "backbone", 0, 1, 2, 3]),
    norm=st.sampled_from(["auto", "batch", "frozen"]),
    backbone_lr=st.sampled_from([0.0, 0.01]),
    optimizer=st.builds(Optimizer, name=st.sampled_from(["sgd", "adam", "adamw"])),
)


@given(stages)
def test_a_stage_that_did_what_it_declared_has_no_breach(declared: Stage) -> None:
    after, slots = honest(network(), declared)
    found = outcome(after, declared, slots)
    assert found.breaches == ()
    assert found.still == ()
    assert found.moved == sum(should_move(t, declared) for t in network())
    assert found.moved + found.fixed == len(after)


@given(stages, st.integers(0, len(network()) - 1))
def test_any_one_tensor_that_did_otherwise_is_named_and_no_other(declared: Stage, place: int) -> None:
    tensors = network()
    after, slots = honest(tensors, declared)
    expected = should_move(tensors[place], declared)
    after[place] = tensors[place] if expected else moved(tensors[place])
    breaches = outcome(after, declared, slots).breaches
    if expected and tensors[place].role == "counter":
        assert breaches == (), "a framework may have no such counter"
    else:
        verb = "did not move although " if expected else "moved although "
        assert len(breaches) == 1
        assert breaches[0].startswith(f"{tensors[place].name} {verb}")


def test_a_breach_reads_as_a_sentence() -> None:
    declared = stage(frozen="backbone")
    after, slots = honest(network(), declared)
    after[3] = moved(after[3])
    after[6] = moved(after[6])
    after[-1] = network()[-1]
    assert outcome(after, declared, slots).breaches == (
        'layer0.bn.mean moved although norm="auto" on a frozen backbone',
        'layer1.weight moved although frozen="backbone"',
        "head.bias did not move although its learning rate is 0.1",
    )


def test_weights_that_move_at_rate_zero_are_a_breach() -> None:
    declared = stage(backbone_lr=0.0)
    after, slots = honest(network(), declared)
    after[0] = moved(after[0])
    assert outcome(after, declared, slots).breaches == ("layer0.weight moved although its learning rate is 0",)


def test_v15_optimizer_state_of_a_frozen_tensor_is_a_breach() -> None:
    declared = stage(frozen=1)
    after, slots = honest(network(), declared)
    found = outcome(after, declared, {**slots, "layer0.weight": {"momentum_buffer": np.zeros((4, 3, 2, 2))}})
    assert found.breaches == ("layer0.weight has optimizer state although it is frozen",)


def test_the_frozen_digest_is_that_of_what_was_frozen_and_of_nothing_else() -> None:
    declared = stage(frozen=2)
    after, slots = honest(network(), declared)
    digest = outcome(after, declared, slots).frozen_sha256
    further = [moved(t) if should_move(t, declared) else t for t in after]
    assert outcome(further, declared, slots).frozen_sha256 == digest
    after[0] = moved(after[0])
    assert outcome(after, declared, slots).frozen_sha256 != digest


def test_running_statistics_need_not_move_at_momentum_zero() -> None:
    declared = stage(bn_momentum=0.0)
    after, slots = honest(network(), declared)
    kept = [old if old.role in BUFFERS else new for old, new in zip(network(), after, strict=True)]
    assert outcome(kept, declared, slots).breaches == ()


def unmoved(declared: Stage, values: list[float], slots: dict[str, list[float]], dtype: Any = np.float32) -> Audit:
    """The verdict on one trainable tensor that did not move, with the optimizer state given."""
    tensor = Tensor("bn.bias", np.array(values, dtype), "backbone", 0, "norm_bias")
    state = {slot: np.array(value, dtype) for slot, value in slots.items()}
    return judge(mark([tensor]), [tensor], declared, {"bn.bias": state})


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_a_tensor_without_gradient_may_stand_still_and_is_listed(rule: Any) -> None:
    found = unmoved(stage(optimizer=Optimizer(name=rule)), [0.5, -1.0], {"first": [0.0, 0.0], "second": [0.0, 0.0]})
    assert (found.breaches, found.still) == ((), ("bn.bias",))


def test_a_gradient_of_rounding_noise_excuses_a_tensor_under_sgd() -> None:
    found = unmoved(stage(), [0.5, -1.0], {"momentum_buffer": [1e-9, -2e-9]})
    assert (found.breaches, found.still) == ((), ("bn.bias",))


def test_one_element_within_reach_is_enough_for_a_breach() -> None:
    assert unmoved(stage(), [100.0, 1e-6], {"momentum_buffer": [1e-6, 1e-6]}).breaches
    assert unmoved(stage(), [1.0, 1.0], {"momentum_buffer": [0.0, 1e-3]}).breaches


@pytest.mark.parametrize("gradient", [1e-6, 1e-3, 1.0, 30.0])
def test_adam_moves_by_its_rate_however_small_the_gradient_so_standing_still_is_a_breach(gradient: float) -> None:
    declared = stage(backbone_lr=1e-4, optimizer=Optimizer(name="adam"))
    slots = {"exp_avg": [0.1 * gradient] * 2, "exp_avg_sq": [0.001 * gradient**2] * 2}
    assert unmoved(declared, [1.0, 1.0], slots).breaches == (
        "bn.bias did not move although its learning rate is 0.0001",
    )


def test_a_step_counter_among_the_slots_says_nothing_about_reach() -> None:
    tensor = Tensor("bn.bias", np.ones(2, np.float32), "backbone", 0, "norm_bias")
    slots = {"bn.bias": {"step": np.array(40.0), "exp_avg": np.zeros(2), "exp_avg_sq": np.zeros(2)}}
    declared = stage(optimizer=Optimizer(name="adam"))
    assert judge(mark([tensor]), [tensor], declared, slots).still == ("bn.bias",)


def test_reach_is_judged_in_the_tensors_own_precision() -> None:
    slots = {"momentum_buffer": [1e-8, 1e-8]}
    assert unmoved(stage(), [1.0, 1.0], slots).breaches == ()
    assert unmoved(stage(), [1.0, 1.0], slots, np.float64).breaches


def test_decoupled_decay_alone_moves_a_weight() -> None:
    slots = {"exp_avg": [0.0, 0.0], "exp_avg_sq": [0.0, 0.0]}
    decayed = stage(optimizer=Optimizer(name="adamw"), weight_decay=0.1)
    assert unmoved(decayed, [1.0, 2.0], slots).breaches
    assert unmoved(decayed, [0.0, 0.0], slots).breaches == ()


def test_a_mark_keeps_no_values_and_sees_the_last_bit() -> None:
    tensors = network()
    before = mark(tensors)
    assert all(len(m.digest) == 16 and m.size == t.array.size for m, t in zip(before.values(), tensors, strict=True))
    assert all(mark([moved(t)])[t.name] != before[t.name] for t in tensors)
    assert before == mark(t._replace(array=np.asfortranarray(t.array)) for t in tensors)
