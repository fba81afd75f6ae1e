"""The neutral checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.data.checkpoint import NORMALISATIONS, Bare, read_checkpoint, read_meta, tensors_digest, write_checkpoint
from harness.errors import Refused

FACTS: dict[str, Any] = {
    "model": "tiny-cnn",
    "normalisation": NORMALISATIONS["imagenet"],
    "origin": "a test",
    "classes": ("ant", "bee"),
    "recipe": {"epochs": 3},
}
WEIGHTS = {"features.0.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "b": np.zeros(2)}

tensors = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)).filter(
        lambda array: np.isfinite(array).all()
    )
)
checkpoints = st.dictionaries(st.text("abc.019_", min_size=1, max_size=12), tensors, max_size=5)


@given(checkpoints)
def test_what_is_written_comes_back_in_value_shape_and_type_but_for_float16_which_comes_back_as_float32(
    tmp_path_factory: pytest.TempPathFactory, written: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    meta = write_checkpoint(path, written, **FACTS)
    back = read_checkpoint(path)
    assert back.meta == meta == read_meta(path)
    assert back.arrays.keys() == written.keys()
    for name, array in written.items():
        assert back.arrays[name].shape == array.shape, name
        read_as = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype
        assert back.arrays[name].dtype == read_as, name
        assert back.arrays[name].tobytes() == array.astype(read_as).tobytes(), name


def test_a_scalar_counter_keeps_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, {"bn1.num_batches_tracked": np.array(7, np.int64)}, **FACTS)
    assert read_checkpoint(path).arrays["bn1.num_batches_tracked"].shape == ()


def test_a_transposed_array_comes_back_as_it_reads(tmp_path: Path) -> None:
    path, array = tmp_path / "model.safetensors", np.arange(6.0).reshape(2, 3).T
    write_checkpoint(path, {"weight": array}, **FACTS)
    np.testing.assert_array_equal(read_checkpoint(path).arrays["weight"], array)


def test_the_digest_depends_on_names_shapes_types_and_values_but_not_on_order() -> None:
    digest = tensors_digest(WEIGHTS)
    assert digest == tensors_digest(dict(reversed(WEIGHTS.items())))
    weight = WEIGHTS["features.0.0.weight"]
    nudged = weight.copy()
    nudged.flat[5] = np.nextafter(nudged.flat[5], np.float32(9))
    others = [
        {**WEIGHTS, "features.0.0.weight": nudged},
        {**WEIGHTS, "features.0.0.weight": weight.reshape(2, 3, 4)},
        {**WEIGHTS, "features.0.0.weight": weight.astype(np.float64)},
        {**WEIGHTS, "c": np.zeros(2)},
        {**WEIGHTS, "c": np.zeros(1)},
        {**WEIGHTS, "c": np.zeros(())},
        {"renamed": weight, "b": WEIGHTS["b"]},
    ]
    assert len({digest, *map(tensors_digest, others)}) == 1 + len(others)


def test_no_partial_file_is_left_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model.safetensors", WEIGHTS, **FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("size", [0, 4, 60, 400])
def test_a_truncated_file_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, WEIGHTS, **FACTS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(Refused, match=r"model\.safetensors is not a readable safetensors file"):
        read_checkpoint(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"absent\.safetensors"):
        read_meta(tmp_path / "absent.safetensors")


def test_a_bare_safetensors_file_is_refused_and_asks_for_its_normalisation(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "bare.safetensors")
    with pytest.raises(Refused, match="--input-scaling"):
        read_meta(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("text", ["{", "{}", '{"model": 3}'])
def test_metadata_that_cannot_be_understood_is_refused(text: str, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "odd.safetensors", metadata={"finetune-bench": text})
    with pytest.raises(Refused, match=r"odd\.safetensors"):
        read_meta(tmp_path / "odd.safetensors")


def test_tensors_that_were_changed_after_writing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, WEIGHTS, **FACTS)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    save_file({**WEIGHTS, "b": np.ones(2)}, path, metadata=metadata)
    with pytest.raises(Refused, match="was changed after it was written"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_the_tensor_s_name(value: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, {**WEIGHTS, "b": np.array([0.0, value]), "count": np.array(3)}, **FACTS)
    with pytest.raises(Refused, match=r"model\.safetensors: b has values that are not finite"):
        read_checkpoint(path)


def test_only_a_sound_file_without_metadata_is_taken_for_somebody_else_s(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "bare.safetensors")
    with pytest.raises(Bare):
        read_meta(tmp_path / "bare.safetensors")
    whole = (tmp_path / "bare.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-3])
    with pytest.raises(Refused, match="not a readable safetensors file") as refusal:
        read_meta(tmp_path / "cut.safetensors")
    assert not isinstance(refusal.value, Bare)
