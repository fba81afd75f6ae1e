"""The audit of one stage: tensors that moved, gradients computed and random layers, compared with the declaration.

The comparison works on names, arrays and digests only; `harness.auditing.auditor` connects it to a framework (V09,
V13-V16).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from harness.auditing.ledger import Declared, Kind, Slots, TensorChange, TensorMark, Watched, ledger, mark, out_of_reach
from harness.contract import BUFFERS, Tensor
from harness.rules import Breach, ask, rule
from harness.spec import Stage

__all__ = ["DROPPED_OF", "NOT_LOOKED", "Audit", "Observed", "Tally", "judge", "mark", "verdict"]


DROPPED_OF = 4096
"""Batch size for testing a layer that drops whole images. The lowest rate is 0.4 % (first of 55 blocks): with a few
images two draws would mostly be equal."""


class Observed(NamedTuple):
    """Observations that only a framework can make during a stage; None means not observed.

    `paid` maps each tensor whose gradient was computed to the evidence. `random` names the frozen layers whose output
    for one batch differs between two calls. `causes` explain the change of a tensor, `others` are breaches that concern
    no single tensor, `unchecked` names checks that were not made.
    """

    paid: Mapping[str, str] | None = None
    random: tuple[str, ...] | None = None
    causes: Mapping[str, str] = {}
    others: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


NOT_LOOKED = Observed()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of tensors of one kind: all, declared frozen, moved, and with a computed gradient (`paid`)."""

    total: int = 0
    frozen: int = 0
    moved: int = 0
    paid: int | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the audit of one stage. `breaches` are sentences, `rules` the rule id of each of them.

    `still` names trainable tensors that did not move because their gradients were too small. `random` is None if it was
    not checked; `unchecked` then says so. `rules` is unset without a breach, and in older records.
    """

    moved: int
    fixed: int
    frozen_sha256: str
    breaches: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    parameters: Tally = Tally()
    buffers: Tally = Tally()
    slots: Tally = Tally()
    random: tuple[str, ...] | None = None
    unchecked: tuple[str, ...] = ()
    rules: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def found(self) -> list[Breach]:
        """Each breach with its rule."""
        pairs = itertools.zip_longest(self.rules or (), self.breaches, fillvalue=moved.id)
        return [Breach(rule, "", text) for rule, text in pairs]


def judge(
    before: Mapping[str, TensorMark],
    after: Iterable[Tensor],
    stage: Stage,
    slots: Slots,
    observed: Observed = NOT_LOOKED,
) -> Audit:
    """Compare the tensors of a session before and after a stage with the declaration of the stage.

    A trainable tensor that did not move is a breach, unless its optimizer state shows that every step was too small to
    change its last bit. Example: a bias before a batch norm has a gradient of exactly zero.
    """
    rates: dict[str, float] = {}

    def watch(tensor: Tensor) -> Watched:
        rates[tensor.name] = stage.learning_rate(tensor.part)
        return Watched(tensor.name, tensor.array, _kind(tensor), _declared(tensor, stage))

    def excuse(tensor: Watched, state: Mapping[str, NDArray[Any]]) -> bool:
        return out_of_reach(tensor.array, state, stage.optimizer, rates[tensor.name], stage.weight_decay)

    return verdict(ledger(before, map(watch, after), slots, excuse), observed)


def _kind(tensor: Tensor) -> Kind:
    if tensor.role not in BUFFERS:
        return "parameter"
    return "counter" if tensor.role == "counter" else "statistic"


def _declared(tensor: Tensor, stage: Stage) -> Declared:
    frozen = stage.is_frozen(tensor.part, tensor.block)
    if tensor.role in BUFFERS:
        batch = stage.uses_batch_statistics(tensor.part, tensor.block)
        why = f'norm="{stage.norm}"' + (f" on a frozen {tensor.part}" if frozen else "")
        if tensor.role == "counter":  # a framework may have no such counter
            return Declared(frozen, None if batch else False, why)
        return Declared(frozen, batch and stage.bn_momentum > 0, why)
    if frozen:
        return Declared(frozen, False, f'frozen="{stage.frozen}"')
    rate = stage.learning_rate(tensor.part)
    return Declared(frozen, rate > 0, f"its learning rate is {rate:g}")


def verdict(lines: Iterable[TensorChange], observed: Observed = NOT_LOOKED) -> Audit:
    """Return the counts of a ledger and a sentence for each breach, in the order of the ledger."""
    lines = list(lines)
    fixed = hashlib.sha256()
    for line in lines:
        if line.declared.moves is False:
            fixed.update(line.name.encode() + line.digest)
    moved, frozen = sum(line.moved for line in lines), any(line.declared.frozen for line in lines)
    breaches = [breach for line in lines for breach in ask(TENSOR_RULES, line, observed)] + ask(STAGE_RULES, observed)
    unchecked = [check for check, field in _CHECKS if frozen and getattr(observed, field) is None]
    parameters = [line for line in lines if line.kind == "parameter"]
    return Audit(
        moved=moved,
        fixed=len(lines) - moved,
        frozen_sha256=fixed.hexdigest(),
        breaches=tuple(breach.text for breach in breaches),
        still=tuple(line.name for line in lines if line.excused),
        parameters=_tally(parameters, observed.paid),
        buffers=_tally([line for line in lines if line.kind != "parameter"], None),
        slots=Tally(
            total=sum(len(line.slots) for line in lines),
            frozen=sum(len(line.slots) for line in lines if line.declared.frozen),
            moved=sum(len(line.slots_moved) for line in lines),
        ),
        random=observed.random,
        unchecked=(*unchecked, *observed.unchecked),
        rules=tuple(breach.rule for breach in breaches) or msgspec.UNSET,
    )


_CHECKS = (
    ("whether gradients of the frozen part were computed (V16)", "paid"),
    ("whether the frozen part is random (V13)", "random"),
)


@rule("V09", "audit")
def moved(line: TensorChange, observed: Observed) -> Iterator[str]:
    """A tensor moved although it was declared not to move."""
    if line.moved and line.declared.moves is False:
        yield f"{line.name} moved although {_why(line, observed)}"


@rule("V14", "audit")
def did_not_move(line: TensorChange, observed: Observed) -> Iterator[str]:
    """A tensor did not move although it was declared to move, and its gradient was large enough to move it."""
    if line.declared.moves and not line.moved and not line.excused:
        yield f"{line.name} did not move although {_why(line, observed)}"


def _why(line: TensorChange, observed: Observed) -> str:
    cause = observed.causes.get(line.name)
    return f"{line.declared.why}: {cause}" if cause else line.declared.why


@rule("V15", "audit")
def has_optimizer_state(line: TensorChange, observed: Observed) -> Iterator[str]:
    """A frozen tensor has optimizer state, so weight decay or momentum can move it."""
    if line.slots and line.declared.frozen:
        yield f"{line.name} has optimizer state although it is frozen"


@rule("V16", "audit")
def has_gradient(line: TensorChange, observed: Observed) -> Iterator[str]:
    """The gradient of a frozen tensor was computed."""
    if line.declared.frozen and observed.paid and line.name in observed.paid:
        yield f"{line.name} got a gradient although it is frozen: {observed.paid[line.name]}"


@rule("V13", "audit")
def is_random(observed: Observed) -> Iterator[str]:
    """A layer of the frozen part gives two answers for one batch: it drops units or draws noise."""
    yield from (f"{place} is random although it is frozen" for place in observed.random or ())


@rule("V09", "audit")
def otherwise(observed: Observed) -> Iterator[str]:
    """The model differs from its declaration in another way: a tensor is gone, or the output has another width."""
    yield from observed.others


TENSOR_RULES = (moved, did_not_move, has_optimizer_state, has_gradient)
STAGE_RULES = (is_random, otherwise)


def _tally(lines: list[TensorChange], paid: Mapping[str, str] | None) -> Tally:
    return Tally(
        total=len(lines),
        frozen=sum(line.declared.frozen for line in lines),
        moved=sum(line.moved for line in lines),
        paid=None if paid is None else sum(line.name in paid for line in lines),
    )
