"""Rules about a session: it holds the loaded weights, and its head computes its logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contract import Session
from harness.rules import rule
from harness.running.initial_weights import HEAD_LAYERS
from harness.spec import Case

_DISTINCT = 97
"""Number of integers, positive or negative, that even bfloat16 represents exactly."""


@rule("V02", "session")
def not_loaded(session: Session, start: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """A tensor of the session differs from the one that was loaded into it."""
    for tensor in session.state():
        if not np.array_equal(tensor.array, start[tensor.name]):
            yield f"{tensor.name} differs from the array that was loaded into it"


@rule("V08", "session")
def head_in_name_only(session: Session, case: Case, classes: int, images: NDArray[np.float32]) -> Iterator[str]:
    """The logits do not come from the head that the session names, or there is not one per class.

    With weights of 0 in its last layer, the logits equal its biases. The session's head is not restored.
    """
    last = HEAD_LAYERS[case.head][-1]
    weight, bias = f"{last}.weight", f"{last}.bias"
    shapes = {tensor.name: tensor.array.shape for tensor in session.state() if tensor.name in (weight, bias)}
    if shapes[bias] != (classes,):
        yield f"the head has {shapes[bias][0]} outputs for {classes} classes"
        return
    wanted = (np.arange(1, classes + 1) % _DISTINCT * (-1) ** np.arange(classes)).astype(np.float32)
    session.load({weight: np.zeros(shapes[weight], np.float32), bias: wanted})
    logits = session.predict(images)
    if logits.shape[1] != classes:
        yield f"{logits.shape[1]} logits for {classes} classes: {last} is a head in name only"
    elif not np.allclose(logits, wanted, atol=1e-5):
        yield f"{last} is a head in name only: the logits do not follow it"


SESSION_RULES = (not_loaded, head_in_name_only)
