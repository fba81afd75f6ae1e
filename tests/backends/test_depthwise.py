"""Depthwise convolutions as sums against Keras' own, in float64; one process (this file as a program) answers."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.backends.programs import answered

ENGINE = "torch" if find_spec("torch") else "tensorflow"
LAYOUTS = ("channels_last", "channels_first") if ENGINE == "torch" else ("channels_last",)
# Sides smaller than the kernel, odd and even ones, and the strides and paddings of the models.
SHAPES = [(2, 5, 1, "same"), (1, 3, 1, "same"), (9, 5, 2, "valid"), (8, 7, 2, "valid"), (7, 3, 2, "same"),
          (8, 3, 2, "same"), (6, 1, 1, "same"), (5, 1, 2, "valid"), (5, 2, 1, "same"), (8, 3, 3, "same")]  # fmt: skip
CASES = ["-".join(map(str, (layout, *shape))) for layout, shape in product(LAYOUTS, SHAPES)]
REFUSED = ("dilation_rate", "depth_multiplier")
pytestmark = pytest.mark.skipif(not find_spec("keras") or not find_spec(ENGINE), reason="keras is not installed")


@cache
def probed() -> dict[str, Any]:
    return answered(__file__, ENGINE)


@pytest.mark.parametrize("case", CASES)
def test_a_sum_over_the_kernels_places_is_keras_depthwise_convolution(case: str) -> None:
    found = probed()[case]
    assert found["shape"] == found["own_shape"]
    assert found["difference"] < 1e-14
    # Another kernel gives another answer, so there is something to compare.
    assert found["difference_to_another_kernel"] > 1e-3


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_written_as_a_sum_is_refused(field: str) -> None:
    assert "are not supported" in probed()[field]


def test_only_float64_on_jax_and_a_cpu_needs_it() -> None:
    assert probed()["needed"] == ["jax cpu wide"]


def _compared(layout: str, side: int, kernel: int, stride: int, padding: str) -> dict[str, Any]:
    import keras

    from backends.keras3.depthwise import DepthwiseConv2D
    from backends.keras3.tensors import array_of

    draw = np.random.default_rng(0)
    # Rows and columns differ, so that a swap of the two would be seen.
    shape = (2, side, side + 1, 6) if layout == "channels_last" else (2, 6, side, side + 1)
    images = keras.ops.convert_to_tensor(draw.normal(size=shape))
    fields = {"kernel_size": kernel, "strides": stride, "padding": padding, "data_format": layout}
    own, ours = (kind(activation="tanh", **fields) for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv2D))
    for layer in (own, ours):
        layer.build(shape)
    for one, other in zip(own.weights, ours.weights, strict=True):
        values = draw.normal(size=one.shape)
        one.assign(values)
        other.assign(values)
    wanted, given = array_of(own(images)), array_of(ours(images))
    ours.weights[0].assign(np.flip(array_of(ours.weights[0].value), (0, 1)) * 1.01)
    return {
        "own_shape": wanted.shape,
        "shape": given.shape,
        "difference": float(np.abs(given - wanted).max()),
        "difference_to_another_kernel": float(np.abs(array_of(ours(images)) - wanted).max()),
    }


def _refusal(field: str) -> str:
    import keras

    from backends.keras3.depthwise import DepthwiseConv2D

    try:
        DepthwiseConv2D(3, padding="same", **{field: 2})(keras.ops.ones((1, 4, 4, 6)))
    except NotImplementedError as error:
        return str(error)
    return "nothing"


def _needed() -> list[str]:
    from types import SimpleNamespace

    from backends.keras3 import depthwise

    found = []
    for name, kind, wide in product(("tensorflow", "jax", "torch"), ("cpu", "cuda"), (True, False)):
        engine: Any = SimpleNamespace(name=name, device=SimpleNamespace(kind=kind))
        if depthwise.needed(engine, wide=wide):
            found.append(f"{name} {kind} {'wide' if wide else 'narrow'}")
    return found


def _answers() -> dict[str, Any]:
    import keras

    keras.config.set_floatx("float64")
    if ENGINE == "torch":
        keras.device("cpu").__enter__()
    answers: dict[str, Any] = {"needed": _needed()}
    for layout, shape in product(LAYOUTS, SHAPES):
        answers["-".join(map(str, (layout, *shape)))] = _compared(layout, *shape)
    answers |= {field: _refusal(field) for field in REFUSED}
    return answers


if __name__ == "__main__":
    print(json.dumps(_answers()))  # noqa: T201
