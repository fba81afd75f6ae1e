"""The precision of Keras' engine with the settings of a session, and with TF32 off and on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3 import engine
from backends.keras3.session import KerasSession
from backends.keras3.tensors import array_of
from harness.running.numerics import PRODUCT_SIDE, Numerics, examine


def numerics(session: KerasSession) -> Numerics:
    """Measure the precision with the settings of the session."""
    return examine(_product, _convolution, _elementwise)


def both_ways(session: KerasSession) -> dict[str, Numerics]:
    """Measure the precision with TF32 off and on, then restore the setting."""
    found = {}
    for name, allowed in (("TF32 off", False), ("TF32 on", True)):
        with engine.tf32(allowed):
            found[name] = numerics(session)
    return found


def product(session: KerasSession) -> Callable[[], object]:
    """Return a function that computes one large matrix product."""
    square = ops.ones((PRODUCT_SIDE, PRODUCT_SIDE), dtype="float32")

    def multiply() -> object:
        return _array(ops.matmul(square, square)[0, 0])

    return multiply


def _placed(array: NDArray[np.float32]) -> Any:
    return ops.cast(ops.convert_to_tensor(array), keras.config.dtype_policy().compute_dtype)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[Any]:
    return _array(ops.matmul(_placed(left), _placed(right)))


def _convolution(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[Any]:
    last = keras.config.image_data_format() == "channels_last"
    pixels = _placed(np.ascontiguousarray(np.moveaxis(images, 1, -1)) if last else images)
    found = _array(ops.conv(pixels, _placed(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))), padding="valid"))
    return np.moveaxis(found, -1, 1) if last else found


def _elementwise(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[Any]:
    return _array(ops.multiply(ops.convert_to_tensor(one), ops.convert_to_tensor(other)))


def _array(tensor: Any) -> NDArray[Any]:
    narrow = keras.backend.standardize_dtype(tensor.dtype) == "bfloat16"
    return np.array(array_of(ops.cast(tensor, "float32") if narrow else tensor))
