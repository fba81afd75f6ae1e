"""Tensors before and after a stage, one line each: what moved, by digest, and what optimizer state there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.spec import Optimizer

Kind = Literal["parameter", "statistic", "counter", "buffer"]
"""`statistic` and `counter` belong to normalisation layers; `buffer` is any other tensor that no optimizer moves."""
Slots = Mapping[str, Mapping[str, NDArray[Any]]]
"""Optimizer state: tensor name to slot name to array."""


class OnDemand(Mapping[str, NDArray[Any]]):
    """Arrays that are made each time they are asked for, and not kept."""

    def __init__(self, makers: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class TensorMark(NamedTuple):
    """What is kept of a tensor before a stage: enough to see later that it moved, not its values."""

    digest: bytes
    size: int


class Declared(NamedTuple):
    """What was declared of a tensor. `moves` is None where either is right; `why` ends the sentence of a breach."""

    frozen: bool
    moves: bool | None
    why: str


class Watched(NamedTuple):
    """A tensor as it is now. The array may be a view: it is read at once and not kept."""

    name: str
    array: NDArray[Any]
    kind: Kind
    declared: Declared


class TensorChange(NamedTuple):
    """One row of a stage's ledger. `excused` stood still because no step could have reached its last bit."""

    name: str
    kind: Kind
    declared: Declared
    moved: bool
    digest: bytes
    slots: tuple[str, ...]
    slots_moved: tuple[str, ...]
    excused: bool = False


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def array(self) -> NDArray[Any]: ...


def mark(state: Iterable[_Named]) -> dict[str, TensorMark]:
    """Digest every tensor; call before a stage and give the result to `judge` after it."""
    return dict(map(_marked, state))  # map holds on to no tensor while the next one is made


def _marked(tensor: _Named) -> tuple[str, TensorMark]:
    return tensor.name, TensorMark(_digest(tensor.array), tensor.array.size)


def ledger(
    before: Mapping[str, TensorMark],
    after: Iterable[Watched],
    slots: Slots,
    excuse: Callable[[Watched, Mapping[str, NDArray[Any]]], bool],
    slots_before: Mapping[str, Mapping[str, TensorMark]] | None = None,
) -> list[TensorChange]:
    """One line per tensor. `excuse` is asked about those that should have moved and did not.

    `slots_before` holds marks of the optimizer state from before the stage; what has none there counts as moved.
    """
    line = partial(_line, before, slots, slots_before or {}, excuse)
    return list(map(line, after))


def _line(
    before: Mapping[str, TensorMark],
    slots: Slots,
    slots_before: Mapping[str, Mapping[str, TensorMark]],
    excuse: Callable[[Watched, Mapping[str, NDArray[Any]]], bool],
    tensor: Watched,
) -> TensorChange:
    digest = _digest(tensor.array)
    moved = tensor.name not in before or digest != before[tensor.name].digest
    own, old = slots.get(tensor.name, {}), slots_before.get(tensor.name, {})
    slots_moved = tuple(slot for slot in own if slot not in old or _digest(own[slot]) != old[slot].digest)
    stood_still = tensor.kind == "parameter" and bool(tensor.declared.moves) and not moved
    excused = stood_still and excuse(tensor, own)
    return TensorChange(tensor.name, tensor.kind, tensor.declared, moved, digest, tuple(own), slots_moved, excused)


_REACH_ULPS = 8
"""Steps vary within a stage and only the last state is known, so the last bit must be out of reach with room."""
_CHUNK = 1 << 20
"""Bytes that are copied at a time, where a copy cannot be avoided."""


def out_of_reach(
    array: NDArray[Any], slots: Mapping[str, NDArray[Any]], rule: Optimizer, rate: float, decay: float
) -> bool:
    """Whether the optimizer state of a parameter explains, element by element, why it is what it was."""
    own = [slot for slot in slots.values() if slot.shape == array.shape]
    return bool(own) and all(
        _chunk_out_of_reach(np.abs(array[rows]), [np.abs(slot[rows]) for slot in own], rule, rate, decay)
        for rows in _chunks(array)
    )


def _chunk_out_of_reach(
    value: NDArray[Any], slots: list[NDArray[Any]], rule: Optimizer, rate: float, decay: float
) -> bool:
    step = np.maximum.reduce(slots)
    if rule.name != "sgd":  # the root takes the gradient's size away, down to that of epsilon
        step = np.minimum(1.0, step / rule.eps)
    if rule.name == "adamw":
        step = np.maximum(step, decay * value)
    last_bit = np.maximum(np.spacing(value), np.finfo(value.dtype).tiny)
    return bool((step * rate <= _REACH_ULPS * last_bit).all())


def _digest(array: NDArray[Any]) -> bytes:
    """Of the values in C order, whatever lies where in memory; a contiguous array is not copied."""
    found = hashlib.blake2b(digest_size=16)
    parts: Iterable[Any] = (...,) if array.flags.c_contiguous else _chunks(array)
    for rows in parts:
        # As bytes, since not every type of number (bfloat16) has a buffer of its own.
        found.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    return found.digest()


def _chunks(array: NDArray[Any]) -> Iterator[Any]:
    """Indices that cut an array along its first axis."""
    if array.ndim == 0:
        return iter((...,))
    rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
    return (slice(start, start + rows) for start in range(0, len(array), rows))
