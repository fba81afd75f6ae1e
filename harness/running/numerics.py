"""How exactly a backend really multiplies: a product and a convolution against float64, and what becomes of denormals.

A backend lends its own operations; the questions and the exact answers are the same for all (V32, V38).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

PRODUCT_SIDE = 1024
SIDE, CHANNELS = 16, 64
ROWS = 32
"""Rows of a product that are compared; the exact ones of all of them would take longer than the product."""
Operation = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[Any]]


class Numerics(msgspec.Struct, frozen=True, kw_only=True):
    """Bits of mantissa that results keep, by their typical error: float32 keeps about 22, TF32 12, bf16 9.

    `flushes_denormals` is None where it was not asked.
    """

    product_bits: float
    convolution_bits: float
    flushes_denormals: bool | None = None


@runtime_checkable
class Examined(Protocol):
    """What a backend's module has that lends its operations."""

    def probe_numerics(self, session: Any) -> Numerics:
        """How exactly a session of this backend computes."""
        ...


def examine(
    product: Operation,
    convolution: Operation,
    tenth: Operation | None = None,
    *,
    side: int = PRODUCT_SIDE,
    places: slice = slice(None),
) -> Numerics:
    """Ask a backend's own operations.

    `product` takes [side, side] twice; `convolution` images [n, c, h, w] and a 3×3 kernel [out, c, 3, 3], stride 1, no
    padding, of whose output it may give the rows and columns at `places` alone; `tenth` multiplies elementwise.
    """
    asked = _questions(side)
    return Numerics(
        product_bits=mantissa_bits(product(asked.left, asked.right)[:ROWS], asked.product),
        convolution_bits=mantissa_bits(
            convolution(asked.images, asked.kernel), asked.convolution[:, :, places, places]
        ),
        flushes_denormals=None if tenth is None else _flushes(tenth),
    )


def mantissa_bits(found: NDArray[Any], exact: NDArray[np.float64]) -> float:
    """Minus log2 of the relative error, root mean square over root mean square; 53 for none.

    >>> one = np.linspace(1, 2, 1000)
    >>> round(mantissa_bits(one.astype(np.float16), one))
    12
    """
    error = np.sqrt(np.mean((found.astype(np.float64) - exact) ** 2) / np.mean(exact**2))
    return min(53.0, -math.log2(error)) if error > 0 else 53.0


class CoreUse(msgspec.Struct, frozen=True, kw_only=True):
    """How parallel some work was: CPU seconds per wall second, and over those of the busiest thread (V37).

    On a machine that others use as well, `cores` is too low; `threads` is not, but counts threads that take turns.
    """

    cores: float
    threads: float


def busy(work: Callable[[], object], seconds: float = 0.5) -> CoreUse:
    """Do `work` over and over and see what is busy meanwhile; it must return when it is done."""
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


class _Questions(NamedTuple):
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    images: NDArray[np.float32]
    kernel: NDArray[np.float32]
    product: NDArray[np.float64]
    convolution: NDArray[np.float64]


@cache
def _questions(side: int) -> _Questions:
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    images = draw.standard_normal((2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    kernel = draw.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    product = left[:ROWS].astype(np.float64) @ right.astype(np.float64)
    return _Questions(left, right, images, kernel, product, _convolved(images, kernel))


def _flushes(tenth: Operation) -> bool:
    smallest = np.full(64, np.finfo(np.float32).tiny, np.float32)
    return not np.asarray(tenth(smallest, np.full(64, 0.1, np.float32)), np.float32).view(np.uint32).any()


def _convolved(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, kernel.astype(np.float64), optimize=True))
