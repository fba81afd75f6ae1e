"""The precision of a backend's operations: a product and a convolution compared with float64, and denormals.

A backend passes its own operations; inputs and exact results are the same for all backends (V32, V38).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import psutil

PRODUCT_SIDE = 1024
SIDE, CHANNELS = 16, 64
ROWS = 32
"""Rows of a product that are compared; an exact result for all rows would take longer than the product."""
Operation = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[Any]]


class Numerics(msgspec.Struct, frozen=True, kw_only=True):
    """Effective mantissa bits of results, from their typical error: float32 has about 22, TF32 12, bf16 9.

    `flushes_denormals` is None if it was not tested.
    """

    product_bits: float
    convolution_bits: float
    flushes_denormals: bool | None = None


@runtime_checkable
class Examined(Protocol):
    """A backend module that can measure its precision."""

    def probe_numerics(self, session: Any) -> Numerics:
        """Measure the precision of a session's operations."""


def examine(
    product: Operation,
    convolution: Operation,
    tenth: Operation | None = None,
    *,
    side: int = PRODUCT_SIDE,
    places: slice = slice(None),
) -> Numerics:
    """Measure the precision of a backend's operations.

    `product` takes two [side, side] matrices. `convolution` takes images [n, c, h, w] and a kernel [out, c, 3, 3], with
    stride 1 and no padding; it may return only the rows and columns at `places`. `tenth` multiplies elementwise.
    """
    inputs = _inputs(side)
    exact = inputs.convolution[:, :, places, places]
    return Numerics(
        product_bits=mantissa_bits(product(inputs.left, inputs.right)[:ROWS], inputs.product),
        convolution_bits=mantissa_bits(convolution(inputs.images, inputs.kernel), exact),
        flushes_denormals=None if tenth is None else _flushes(tenth),
    )


def mantissa_bits(found: NDArray[Any], exact: NDArray[np.float64]) -> float:
    """Return -log2 of the relative error (RMS of the error / RMS of the exact values); 53 without error.

    >>> one = np.linspace(1, 2, 1000)
    >>> round(mantissa_bits(one.astype(np.float16), one))
    12
    """
    error = np.sqrt(np.mean((found.astype(np.float64) - exact) ** 2) / np.mean(exact**2))
    return min(53.0, -math.log2(error)) if error > 0 else 53.0


class CoreUse(msgspec.Struct, frozen=True, kw_only=True):
    """The parallelism of some work (V37).

    `cores` is CPU seconds per wall second; it is too low on a shared machine. `threads` is CPU seconds divided by those
    of the busiest thread; it also counts threads that run one after the other.
    """

    cores: float
    threads: float


def busy(work: Callable[[], object], seconds: float = 0.5) -> CoreUse:
    """Repeat `work`, which must be synchronous, for some seconds and measure its use of cores."""
    import psutil  # here, because it is a twelfth of a worker's start and few workers need it

    work()
    process = psutil.Process()
    before = _spent(process)
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        work()
    used, wall = time.process_time() - cpu, time.perf_counter() - started
    each = [spent - before.get(thread, 0.0) for thread, spent in _spent(process).items()]
    return CoreUse(cores=used / wall, threads=sum(each) / max(each) if max(each) > 0 else 1.0)


def _spent(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


class _Inputs(NamedTuple):
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    images: NDArray[np.float32]
    kernel: NDArray[np.float32]
    product: NDArray[np.float64]
    convolution: NDArray[np.float64]


@cache
def _inputs(side: int) -> _Inputs:
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    images = draw.standard_normal((2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    kernel = draw.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    product = left[:ROWS].astype(np.float64) @ right.astype(np.float64)
    return _Inputs(left, right, images, kernel, product, _convolved(images, kernel))


def _flushes(tenth: Operation) -> bool:
    smallest = np.full(64, np.finfo(np.float32).tiny, np.float32)
    return not np.asarray(tenth(smallest, np.full(64, 0.1, np.float32)), np.float32).view(np.uint32).any()


def _convolved(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, kernel.astype(np.float64), optimize=True))
