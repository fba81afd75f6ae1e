"""What a worker asks of a session before and after it trains. Each raises RuntimeError, which fails the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contract import Session
from harness.running.initial_weights import HEAD_LAYERS
from harness.spec import Case

_DISTINCT = 97
"""As many whole numbers, and negative ones, as even bfloat16 tells apart."""


def v02_everything_loaded(session: Session, start: Mapping[str, NDArray[Any]]) -> None:
    """What was loaded into a session is what it now has, tensor by tensor."""
    for tensor in session.state():
        if not np.array_equal(tensor.array, start[tensor.name]):
            raise RuntimeError(f"{tensor.name} is not what was loaded into it (V02)")


def v08_head_answers(session: Session, case: Case, classes: int, images: NDArray[np.float32]) -> None:
    """The head that the session names is the one that makes its logits, for that many classes.

    With its last layer's weights 0, the logits are its biases. The session's head is not restored.
    """
    last = HEAD_LAYERS[case.head][-1]
    weight, bias = f"{last}.weight", f"{last}.bias"
    shapes = {tensor.name: tensor.array.shape for tensor in session.state() if tensor.name in (weight, bias)}
    if shapes[bias] != (classes,):
        raise RuntimeError(f"the head has {shapes[bias][0]} outputs for {classes} classes (V08)")
    wanted = (np.arange(1, classes + 1) % _DISTINCT * (-1) ** np.arange(classes)).astype(np.float32)
    session.load({weight: np.zeros(shapes[weight], np.float32), bias: wanted})
    logits = session.predict(images)
    if logits.shape[1] != classes:
        raise RuntimeError(f"{logits.shape[1]} logits for {classes} classes: {last} is a head in name only (V08)")
    if not np.allclose(logits, wanted, atol=1e-5):
        raise RuntimeError(f"{last} is a head in name only: the logits do not follow it (V08)")
