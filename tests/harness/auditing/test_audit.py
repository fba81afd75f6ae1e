"""What moved, held against what the stage declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.auditing.audit import NOT_LOOKED, Audit, Observed, judge, mark
from harness.auditing.auditor import chosen, declare, describe
from harness.auditing.ledger import OnDemand
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


def outcome(after: list[Tensor], declared: Stage, slots: Slots, observed: Observed = NOT_LOOKED) -> Audit:
    return judge(mark(network()), after, declared, slots, observed)


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


def test_v16_a_gradient_that_was_computed_for_a_frozen_tensor_is_a_breach() -> None:
    declared = stage(frozen=1)
    after, slots = honest(network(), declared)
    paid = dict.fromkeys(["layer0.weight", "layer1.weight", "head.bias"], "a backward pass computed it")
    found = outcome(after, declared, slots, Observed(paid=paid, random=()))
    assert found.breaches == ("layer0.weight got a gradient although it is frozen: a backward pass computed it",)
    assert (found.parameters.paid, found.unchecked) == (3, ())


def test_v13_a_place_that_is_random_in_the_frozen_part_is_a_breach() -> None:
    declared = stage(frozen=1)
    after, slots = honest(network(), declared)
    found = outcome(after, declared, slots, Observed(paid={}, random=("layer0.drop",)))
    assert found.breaches == ("layer0.drop is random although it is frozen",)
    assert found.random == ("layer0.drop",)


@pytest.mark.parametrize("frozen", ["none", 1])
def test_what_nobody_looked_at_is_said_where_something_is_frozen(frozen: Any) -> None:
    declared = stage(frozen=frozen)
    after, slots = honest(network(), declared)
    found = outcome(after, declared, slots)
    asked = ("whether gradients of the frozen part were computed (V16)", "whether the frozen part is random (V13)")
    assert found.unchecked == (() if frozen == "none" else asked)
    assert (found.random, found.parameters.paid) == (None, None)


def test_figures_count_what_was_declared_and_what_moved() -> None:
    declared = stage(frozen=1)
    after, slots = honest(network(), declared)
    found = outcome(after, declared, slots)
    assert (found.parameters.total, found.parameters.frozen, found.parameters.moved) == (11, 3, 8)
    assert (found.buffers.total, found.buffers.frozen, found.buffers.moved) == (9, 3, 6)
    assert (found.slots.total, found.slots.frozen, found.slots.moved) == (8, 0, 8)


def test_records_from_before_these_figures_stay_readable() -> None:
    old = b'{"moved":1,"fixed":2,"frozen_sha256":"00","breaches":["a moved although it is frozen"],"still":["b"]}'
    found = msgspec.json.decode(old, type=Audit)
    assert (found.breaches, found.still, found.random) == (("a moved although it is frozen",), ("b",), None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Audit) == found


def test_the_frozen_digest_is_that_of_what_was_frozen_and_of_nothing_else() -> None:
    declared = stage(frozen=2)
    after, slots = honest(network(), declared)
    digest = outcome(after, declared, slots).frozen_sha256
    further = [moved(t) if should_move(t, declared) else t for t in after]
    assert outcome(further, declared, slots).frozen_sha256 == digest
    after[0] = moved(after[0])
    assert outcome(after, declared, slots).frozen_sha256 != digest


def test_no_optimizer_state_excuses_a_running_statistic() -> None:
    declared = stage()
    after, slots = honest(network(), declared)
    after[3] = network()[3]
    found = outcome(after, declared, {**slots, after[3].name: {"momentum_buffer": np.zeros(4)}})
    assert found.breaches == ('layer0.bn.mean did not move although norm="auto"',)


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


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 0), (700, 600), (2, 3, 4, 5)])
def test_a_mark_depends_on_values_alone_whatever_lies_where_in_memory(shape: tuple[int, ...], dtype: Any) -> None:
    array = (np.random.default_rng(0).random(shape) * 9).astype(dtype)
    tensor = Tensor("a", array, "head", -1, "weight")
    strided = np.stack([array, array], axis=-1)[..., 0]
    layouts = [np.asfortranarray(array), strided, array.T.copy().T]
    assert all(mark([tensor._replace(array=other)]) == mark([tensor]) for other in layouts)
    if array.size:
        changed = strided.copy() + np.ones((), dtype) if dtype is not np.bool_ else ~strided
        assert mark([tensor._replace(array=changed)]) != mark([tensor])


def test_optimizer_state_on_demand_is_made_when_it_is_read_and_not_before() -> None:
    made: list[str] = []

    def make() -> np.ndarray:
        made.append("momentum")
        return np.ones(3)

    slots = OnDemand({"momentum": make})
    assert (list(slots), len(slots), "momentum" in slots, made) == (["momentum"], 1, True, [])
    assert slots["momentum"].sum() == 3
    assert made == ["momentum"]


def test_state_of_trainable_tensors_that_moved_is_never_read() -> None:
    def unreadable() -> np.ndarray:
        raise AssertionError

    declared = stage()
    after, slots = honest(network(), declared)
    lazy = {name: OnDemand({"momentum_buffer": unreadable}) for name in slots}
    assert outcome(after, declared, lazy).breaches == ()


@pytest.mark.parametrize(
    ("kind", "frozen", "norm", "moves"),
    [
        ("parameter", True, "batch", False), ("parameter", False, "frozen", True),
        ("statistic", True, "auto", False), ("statistic", False, "auto", True),
        ("statistic", True, "batch", True), ("statistic", False, "frozen", False),
        ("counter", False, "auto", None), ("counter", True, "auto", False),
        ("buffer", True, "batch", False), ("buffer", False, "frozen", None),
    ],
)  # fmt: skip
def test_what_is_declared_of_each_kind_of_tensor(kind: Any, frozen: bool, norm: Any, moves: bool | None) -> None:
    assert declare(kind, frozen, norm).moves is moves


def test_one_beginning_alone_is_one_beginning_and_not_its_letters() -> None:
    found, whole = chosen("ab", ["ab.c", "a", "b"], lambda one: ["ab.c"] if one == "ab" else None)
    assert (found, whole) == (frozenset({"ab.c"}), ("ab",))


def test_a_report_prints_the_first_of_many_alike_and_counts_the_rest() -> None:
    moved = tuple(f"layer{i}.weight moved although it is frozen" for i in range(8))
    audit = Audit(moved=8, fixed=1, frozen_sha256="", breaches=(*moved, "fc did not move"), unchecked=("the width",))
    assert describe(audit).splitlines() == [
        "9 breaches; 8 of 9 tensors moved",
        *(f"- {sentence}" for sentence in moved[:5]),
        "- fc did not move",
        "- … moved although it is frozen: 3 more",
        "not checked: the width",
    ]
