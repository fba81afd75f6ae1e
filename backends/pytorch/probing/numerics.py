"""The precision of torch with the settings of a session, and with other settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from backends.pytorch import requirements
from backends.pytorch.session import TorchSession
from harness.running.numerics import PRODUCT_SIDE, Numerics, examine


def numerics(session: TorchSession) -> Numerics:
    """Measure the precision with the settings of the session."""
    with session.arithmetic():
        return _measure(session)


def both_ways(session: TorchSession) -> dict[str, Numerics]:
    """Measure the precision with TF32 off and denormals flushed, and with the opposite; then restore the settings."""
    found = {}
    for name, loose in (("TF32 off, denormals flushed", False), ("TF32 on, denormals kept", True)):
        with _tf32(loose), requirements.denormals_flushed(not loose):
            found[name] = _measure(session)
    return found


def product(session: TorchSession) -> Callable[[], object]:
    """Return a function that computes one large matrix product on the session's device."""
    square = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, device=session.device)

    def multiply() -> object:
        found = square @ square
        session.sync()
        return found

    return multiply


def _measure(session: TorchSession) -> Numerics:
    def placed(array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array).to(session.device, session.dtype)

    def multiplied(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode(), session.autocast():
            return _array(placed(left) @ placed(right))

    def convolved(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode(), session.autocast():
            pixels = placed(images).contiguous(memory_format=session.memory_format)
            return _array(functional.conv2d(pixels, placed(kernel).contiguous(memory_format=session.memory_format)))

    def elementwise(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[Any]:
        return _array(torch.from_numpy(one).to(session.device) * torch.from_numpy(other).to(session.device))

    return examine(multiplied, convolved, elementwise)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return np.asarray(wide.cpu().numpy())


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
