"""The ledger of a stage: one line per tensor, with its digest, whether it moved, and its optimizer state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.spec import Optimizer

Kind = Literal["parameter", "statistic", "counter", "buffer"]
"""`statistic` and `counter` belong to normalisation layers; `buffer` is any other tensor outside the optimizer."""
Slots = Mapping[str, Mapping[str, NDArray[Any]]]
"""Optimizer state: arrays by tensor name and slot name."""


class OnDemand(Mapping[str, NDArray[Any]]):
    """A mapping that creates an array at each access and does not keep it."""

    def __init__(self, makers: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping's own method would create the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class TensorMark(NamedTuple):
    """Digest and size of a tensor before a stage: enough to see later whether it moved."""

    digest: bytes
    size: int


class Declared(NamedTuple):
    """The declaration for a tensor. `moves` is None if both are allowed; `why` ends the sentence of a breach."""

    frozen: bool
    moves: bool | None
    why: str


class Watched(NamedTuple):
    """The current value of a tensor. The array may be a view: it is read at once and not kept."""

    name: str
    array: NDArray[Any]
    kind: Kind
    declared: Declared


class TensorChange(NamedTuple):
    """One line of a ledger. `excused`: it did not move because every step was too small to change its last bit."""

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
    """Return the digest of every tensor; call it before a stage and pass the result to `judge` after it."""
    return dict(map(_marked, state))  # with map, a tensor is freed before the next one is created


def _marked(tensor: _Named) -> tuple[str, TensorMark]:
    return tensor.name, TensorMark(_digest(tensor.array), tensor.array.size)


def ledger(
    before: Mapping[str, TensorMark],
    after: Iterable[Watched],
    slots: Slots,
    excuse: Callable[[Watched, Mapping[str, NDArray[Any]]], bool],
    slots_before: Mapping[str, Mapping[str, TensorMark]] | None = None,
) -> list[TensorChange]:
    """Return one line per tensor. `excuse` is called for tensors that should have moved and did not.

    `slots_before` holds the digests of the optimizer state before the stage; a slot that is not in it counts as moved.
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
    new, old = slots.get(tensor.name, {}), slots_before.get(tensor.name, {})
    slots_moved = tuple(slot for slot in new if slot not in old or _digest(new[slot]) != old[slot].digest)
    should_have_moved = tensor.kind == "parameter" and bool(tensor.declared.moves) and not moved
    excused = should_have_moved and excuse(tensor, new)
    return TensorChange(tensor.name, tensor.kind, tensor.declared, moved, digest, tuple(new), slots_moved, excused)


_REACH_ULPS = 8
"""Safety factor: steps vary within a stage, and only the last optimizer state is known."""
_CHUNK = 1 << 20
"""Bytes copied at a time, where a copy is necessary."""


def out_of_reach(
    array: NDArray[Any], slots: Mapping[str, NDArray[Any]], rule: Optimizer, rate: float, decay: float
) -> bool:
    """Return whether the optimizer state explains, for every element of a parameter, that it did not move."""
    same_shape = [slot for slot in slots.values() if slot.shape == array.shape]
    return bool(same_shape) and all(
        _chunk_out_of_reach(np.abs(array[rows]), [np.abs(slot[rows]) for slot in same_shape], rule, rate, decay)
        for rows in _chunks(array)
    )


def _chunk_out_of_reach(
    value: NDArray[Any], slots: list[NDArray[Any]], rule: Optimizer, rate: float, decay: float
) -> bool:
    step = np.maximum.reduce(slots)
    if rule.name != "sgd":  # the division by the root removes the scale of gradients larger than epsilon
        step = np.minimum(1.0, step / rule.eps)
    if rule.name == "adamw":
        step = np.maximum(step, decay * value)
    last_bit = np.maximum(np.spacing(value), np.finfo(value.dtype).tiny)
    return bool((step * rate <= _REACH_ULPS * last_bit).all())


def _digest(array: NDArray[Any]) -> bytes:
    """Hash the values in C order, for any memory layout; a contiguous array is not copied."""
    found = hashlib.blake2b(digest_size=16)
    for rows in (...,) if array.flags.c_contiguous else _chunks(array):
        # The view as bytes is needed for types without a NumPy buffer, such as bfloat16.
        found.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    return found.digest()


def _chunks(array: NDArray[Any]) -> Iterator[Any]:
    if array.ndim == 0:
        return iter((...,))
    rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
    return (slice(start, start + rows) for start in range(0, len(array), rows))
