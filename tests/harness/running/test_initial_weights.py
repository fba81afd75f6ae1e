"""Where training starts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backends import reference
from benchmarks.datasets.writing import PreparedDataset
from harness.contract import Model, Tensor
from harness.data.checkpoint import NORMALISATIONS, Checkpoint, CheckpointMeta
from harness.running.initial_weights import head_arrays, overlay, random_arrays
from harness.running.opening import FoundModel
from tests.harness.cases import scenario, tiny_arrays, tiny_case

MODEL = Model(name="m", build=dict, classifier="fc.")


def tensor(name: str, shape: tuple[int, ...], role: Any, dtype: Any = np.float32) -> Tensor:
    return Tensor(name, np.full(shape, 7, dtype), "backbone", 0, role)


def checkpoint(arrays: dict[str, Any], **facts: Any) -> Checkpoint:
    meta = CheckpointMeta(model="m", normalisation=NORMALISATIONS["imagenet"], origin="a test", sha256="", **facts)
    return Checkpoint(meta, {name: np.asarray(array) for name, array in arrays.items()})


def test_random_values_depend_on_seed_and_name_alone() -> None:
    conv, other = tensor("conv.weight", (64, 3, 3, 3), "weight"), tensor("other.weight", (64, 3, 3, 3), "weight")
    both = random_arrays([conv, other], "kaiming-normal-fan-out", 1)
    reordered = random_arrays([other, conv], "kaiming-normal-fan-out", 1)
    np.testing.assert_array_equal(both["conv.weight"], reordered["conv.weight"])
    assert not np.array_equal(both["conv.weight"], both["other.weight"])
    again = random_arrays([conv], "kaiming-normal-fan-out", 2)
    assert not np.array_equal(both["conv.weight"], again["conv.weight"])


def test_kaiming_has_the_spread_of_torchvisions_fan_out() -> None:
    shape = (128, 32, 3, 3)
    weight = random_arrays([tensor("w", shape, "weight")], "kaiming-normal-fan-out", 0)["w"]
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    assert float(weight.mean()) == pytest.approx(0, abs=1e-3)


def test_torchs_default_is_uniform_within_the_root_of_the_fan_in_biases_too() -> None:
    layers = [tensor("w", (500, 40, 2, 2), "weight"), tensor("b", (500,), "bias")]
    for array in random_arrays(layers, "torch-default", 0).values():
        bound = 1 / math.sqrt(160)
        assert np.abs(array).max() <= bound
        assert float(array.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_what_a_checkpoint_gives_is_not_drawn_and_the_rest_is_as_if_everything_were() -> None:
    layers = [tensor("w", (50, 40), "weight"), tensor("b", (50,), "bias"), tensor("v", (60, 50), "weight")]
    everything = random_arrays(layers, "torch-default", 0)
    for given_names in ({"w"}, {"b"}, {"w", "v"}, {"w", "b", "v"}):
        rest = random_arrays(layers, "torch-default", 0, without=given_names)
        assert set(rest) == set(everything) - given_names
        for name, array in rest.items():
            np.testing.assert_array_equal(array, everything[name])


def test_norms_begin_as_the_identity_and_every_type_is_kept() -> None:
    roles = {"norm_scale": 1, "norm_bias": 0, "norm_mean": 0, "norm_var": 1, "counter": 0}
    state = [tensor(role, () if role == "counter" else (4,), role) for role in roles]
    state.append(tensor("wide", (3, 2), "weight", np.float64))
    made = random_arrays(state, "kaiming-normal-fan-out", 0)
    assert {role: float(made[role].max()) for role in roles} == roles
    assert all(made[t.name].dtype == t.array.dtype and made[t.name].shape == t.array.shape for t in state)


def test_the_linear_head_is_torchs_default_or_xavier() -> None:
    default = head_arrays("linear", 400, 10, "default", 0)
    assert {name: array.shape for name, array in default.items()} == {"head.weight": (10, 400), "head.bias": (10,)}
    assert 0.9 / 20 < np.abs(default["head.weight"]).max() <= 1 / 20
    assert 0 < np.abs(default["head.bias"]).max() <= 1 / 20
    xavier = head_arrays("linear", 400, 10, "xavier", 0)
    bound = math.sqrt(6 / 410)
    assert 0.9 * bound < np.abs(xavier["head.weight"]).max() <= bound
    assert not xavier["head.bias"].any()


@pytest.mark.parametrize("classes", [2, 64, 128])
def test_the_mlp_head_is_he_he_glorot_with_biases_zero(classes: int) -> None:
    head = head_arrays("mlp", 512, classes, "default", 0)
    shapes = {"head.0.weight": (128, 512), "head.1.weight": (64, 128), "head.2.weight": (classes, 64)}
    assert {name: array.shape for name, array in head.items() if name.endswith("weight")} == shapes
    assert float(head["head.0.weight"].std()) == pytest.approx(math.sqrt(2 / 512), rel=0.03)
    assert float(head["head.1.weight"].std()) == pytest.approx(math.sqrt(2 / 128), rel=0.03)
    assert np.abs(head["head.2.weight"]).max() <= math.sqrt(6 / (64 + classes))
    assert not any(array.any() for name, array in head.items() if name.endswith("bias"))


@given(st.sampled_from(["linear", "mlp"]), st.integers(0, 2**32), st.sampled_from(["default", "xavier"]))
def test_a_head_is_the_same_each_time_and_float32(kind: Any, seed: int, init: Any) -> None:
    first, second = head_arrays(kind, 6, 3, init, seed), head_arrays(kind, 6, 3, init, seed)
    assert all(array.dtype == np.float32 and array.tobytes() == second[name].tobytes() for name, array in first.items())
    assert head_arrays(kind, 6, 3, init, seed + 1)[
        "head.weight" if kind == "linear" else "head.0.weight"
    ].tobytes() not in {array.tobytes() for array in first.values()}


def start() -> dict[str, Any]:
    return {
        "conv.weight": np.zeros((4, 3, 3, 3), np.float32),
        "bn.weight": np.zeros(4, np.float32),
        "bn.num_batches_tracked": np.array(0),
        "head.weight": np.zeros((2, 4), np.float32),
        "head.bias": np.zeros(2, np.float32),
    }


def test_a_checkpoint_of_the_same_model_loads_whole_and_leaves_the_new_head_alone() -> None:
    arrays = start()
    source = {"conv.weight": np.ones((4, 3, 3, 3)), "bn.weight": np.ones(4), "fc.weight": np.ones((9, 4))}
    report = overlay(arrays, MODEL, checkpoint(source))
    assert report.complete
    assert report.sentence() == "2 tensors loaded"
    assert report.classifier == ("fc.weight",)
    assert arrays["conv.weight"].all()
    assert arrays["conv.weight"].dtype == np.float32
    assert not arrays["head.weight"].any()


def test_what_did_not_fit_is_named_and_left_as_it_was() -> None:
    arrays = start()
    report = overlay(arrays, MODEL, checkpoint({"conv.weight": np.ones((4, 3, 5, 5)), "extra.weight": np.ones(1)}))
    assert not report.complete
    assert report.missing == ("bn.weight",)
    assert report.unexpected == ("extra.weight",)
    assert report.mismatched == (("conv.weight", (4, 3, 3, 3), (4, 3, 5, 5)),)
    assert report.sentence() == (
        "0 loaded, 1 missing (bn.weight), 1 unexpected (extra.weight), "
        "1 of another shape (conv.weight [4, 3, 5, 5] instead of [4, 3, 3, 3])"
    )
    assert not arrays["conv.weight"].any()


def test_what_an_import_had_no_place_for_is_unexpected_too() -> None:
    source = {"conv.weight": np.ones((4, 3, 3, 3)), "bn.weight": np.ones(4)}
    report = overlay(start(), MODEL, checkpoint(source, unmapped=("ema.decay",)))
    assert not report.complete
    assert report.sentence() == "2 loaded, 1 unexpected (ema.decay)"


def test_what_an_import_chose_is_in_the_report_and_leaves_it_complete() -> None:
    source = {"conv.weight": np.ones((4, 3, 3, 3)), "bn.weight": np.ones(4)}
    report = overlay(start(), MODEL, checkpoint(source, notes=("the weights in 'model' were taken",)))
    assert report.notes == ("the weights in 'model' were taken",)
    assert report.complete


def test_a_long_list_of_names_is_cut_in_the_sentence_and_whole_in_the_report() -> None:
    report = overlay(start(), MODEL, checkpoint({f"x{i}": np.ones(1) for i in range(9)}))
    assert len(report.unexpected) == 9
    assert "9 unexpected (x0, x1, x2, x3 and 5 more)" in report.sentence()


@pytest.mark.parametrize("prefix", ["fc.", "head."])
def test_rows_of_the_source_classifier_are_reused_for_classes_of_the_same_name(prefix: str) -> None:
    arrays = start()
    weight, bias = np.arange(12.0).reshape(3, 4), np.array([5.0, 6.0, 7.0])
    source = checkpoint({f"{prefix}weight": weight, f"{prefix}bias": bias}, classes=("ant", "bee", "cat"))
    report = overlay(arrays, MODEL, source, reuse_for=("dog", "bee"))
    assert report.reused_classes == ("bee",)
    assert arrays["head.weight"].tolist() == [[0, 0, 0, 0], weight[1].tolist()]
    assert arrays["head.bias"].tolist() == [0, 6]


def test_rows_of_another_width_are_not_reused() -> None:
    arrays = start()
    source = checkpoint({"fc.weight": np.ones((3, 5)), "fc.bias": np.ones(3)}, classes=("ant", "bee", "cat"))
    assert overlay(arrays, MODEL, source, reuse_for=("ant", "bee")).reused_classes == ()
    assert not arrays["head.weight"].any()


def test_a_counter_that_the_network_does_not_keep_is_no_leftover() -> None:
    arrays = start()
    counted = {**{name: np.ones_like(array) for name, array in arrays.items() if not name.startswith("head.")}}
    report = overlay(arrays, MODEL, checkpoint({**counted, "elsewhere.num_batches_tracked": np.array(3)}))
    assert report.unexpected == ()


def test_a_network_starts_with_the_checkpoints_tensors_and_draws_what_it_lacks(tiny_dataset: PreparedDataset) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario(start="checkpoint"))
    held = {name: array for name, array in tiny_arrays().items() if "2" not in name}
    whole = FoundModel(reference, reference.MODELS["tiny-cnn"], ("a", "b"))
    found = whole._replace(checkpoint=checkpoint(held))
    start, report = found.start(found.open(case), case)
    drawn, _ = whole.start(whole.open(case), replace(case, scenario=scenario(start="random")))
    assert report
    assert report.loaded
    assert report.missing
    assert list(start) == list(drawn)
    for name, array in start.items():
        np.testing.assert_array_equal(array, (held if name in report.loaded else drawn)[name], name)
