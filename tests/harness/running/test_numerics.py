"""How exactly operations compute, measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.reference.numerics import numerics
from harness.running.numerics import busy, examine, mantissa_bits


def cut(bits: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def rounded(array: NDArray[Any]) -> NDArray[Any]:
        mantissa, exponent = np.frexp(array.astype(np.float64))
        return np.asarray(np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent))

    return rounded


def convolved(images: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True))


@pytest.mark.parametrize(("bits", "low", "high"), [(8, 8, 9.5), (11, 11, 12.5), (18, 18, 19.5)])
def test_V32_operands_of_so_many_bits_are_measured_as_such(bits: int, low: float, high: float) -> None:
    narrow = cut(bits)
    found = examine(lambda a, b: narrow(a) @ narrow(b), lambda x, k: convolved(narrow(x), narrow(k)), side=64)
    assert low < found.product_bits < high
    assert low < found.convolution_bits < high


def test_V32_the_reference_keeps_all_that_its_type_has() -> None:
    single, double = numerics(np.float32), numerics(np.float64)
    assert 20 < single.product_bits < 24
    assert 20 < single.convolution_bits < 24
    assert double.product_bits > 48
    assert double.convolution_bits > 48


def test_V32_what_is_exact_has_all_bits_and_what_is_wrong_has_none() -> None:
    exact = np.linspace(1, 2, 100)
    assert mantissa_bits(exact, exact) == 53
    assert mantissa_bits(-exact, exact) == pytest.approx(-1)


def test_V38_denormals_that_become_zero_are_noticed() -> None:
    def flushing(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
        found = one * other
        return np.where(np.abs(found) < np.finfo(np.float32).tiny, 0, found).astype(np.float32)

    ask = {"product": np.matmul, "convolution": convolved, "side": 32}
    assert examine(**ask, tenth=flushing).flushes_denormals is True
    assert examine(**ask, tenth=np.multiply).flushes_denormals is False
    assert examine(**ask).flushes_denormals is None


def test_V37_one_thread_and_two_are_told_apart_whatever_else_runs_here() -> None:
    def burn() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            sum(range(1000))

    stop = threading.Event()

    def beside() -> None:
        while not stop.is_set():
            burn()

    assert busy(burn, 0.4).threads == pytest.approx(1.0, abs=0.15)
    other = threading.Thread(target=beside)
    other.start()
    try:
        assert busy(burn, 0.8).threads > 1.4
    finally:
        stop.set()
        other.join()
