"""What moved during a stage, held against what the stage declared, in both directions (V09, V14, V15)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.contract import BUFFERS, Tensor
from harness.spec import Stage


class Mark(NamedTuple):
    """What is kept of a tensor before a stage: enough to see later that it moved, not its values."""

    digest: bytes
    size: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one stage. `breaches` are sentences; `still` names trainable tensors too nearly without gradient."""

    moved: int
    fixed: int
    frozen_sha256: str
    breaches: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


def mark(state: Iterable[Tensor]) -> dict[str, Mark]:
    """Digest every tensor; call before a stage and give the result to `judge` after it."""
    return {t.name: Mark(_digest(t.array), t.array.size) for t in state}


def judge(
    before: Mapping[str, Mark],
    after: Iterable[Tensor],
    stage: Stage,
    slots: Mapping[str, Mapping[str, NDArray[Any]]],
) -> Audit:
    """Compare two moments of one session with the stage between them.

    A trainable tensor that stood still is a breach, unless its optimizer state shows that no step could have reached
    its last bit: the shift before a batch norm has a gradient of exactly zero.
    """
    moved, still, breaches = 0, [], []
    frozen = hashlib.sha256()
    count = 0
    for tensor in after:
        count += 1
        digest = _digest(tensor.array)
        has_moved = digest != before[tensor.name].digest
        moved += has_moved
        expected, why = _expected(tensor, stage)
        if not expected:
            frozen.update(tensor.name.encode() + digest)
        if has_moved and not expected:
            breaches.append(f"{tensor.name} moved although {why}")
        elif expected and not has_moved and tensor.role != "counter":
            if _out_of_reach(tensor, stage, slots.get(tensor.name, {})):
                still.append(tensor.name)
            else:
                breaches.append(f"{tensor.name} did not move although {why}")
        if tensor.name in slots and stage.is_frozen(tensor.part, tensor.block):
            breaches.append(f"{tensor.name} has optimizer state although it is frozen")
    return Audit(
        moved=moved,
        fixed=count - moved,
        frozen_sha256=frozen.hexdigest(),
        breaches=tuple(breaches),
        still=tuple(still),
    )


def _expected(tensor: Tensor, stage: Stage) -> tuple[bool, str]:
    if tensor.role in BUFFERS:
        batch = stage.uses_batch_statistics(tensor.part, tensor.block)
        frozen = "frozen " if stage.is_frozen(tensor.part, tensor.block) else ""
        why = f'norm="{stage.norm}" on a {frozen}{tensor.part}' if frozen else f'norm="{stage.norm}"'
        return batch and (stage.bn_momentum > 0 or tensor.role == "counter"), why
    if stage.is_frozen(tensor.part, tensor.block):
        return False, f'frozen="{stage.frozen}"'
    rate = stage.learning_rate(tensor.part)
    return rate > 0, f"its learning rate is {rate:g}"


_REACH_ULPS = 8
"""Steps vary within a stage and only the last state is known, so the last bit must be out of reach with room."""


def _out_of_reach(tensor: Tensor, stage: Stage, slots: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the optimizer state explains, element by element, why the tensor is what it was."""
    value = np.abs(tensor.array)
    own = [np.abs(slot) for slot in slots.values() if slot.shape == value.shape]
    if tensor.role in BUFFERS or not own:
        return False
    rule, step = stage.optimizer, np.maximum.reduce(own)
    if rule.name != "sgd":  # the root takes the gradient's size away, down to that of epsilon
        step = np.minimum(1.0, step / rule.eps)
    if rule.name == "adamw":
        step = np.maximum(step, stage.weight_decay * value)
    last_bit = np.maximum(np.spacing(value), np.finfo(value.dtype).tiny)
    return bool((step * stage.learning_rate(tensor.part) <= _REACH_ULPS * last_bit).all())


def _digest(array: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
