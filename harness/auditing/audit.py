"""What a stage moved, paid for and left to chance, held against what was declared, in both directions (V09, V13-V16).

Frameworks and models of one's own come in through `harness.auditing.auditor`; here are names, arrays and digests alone.
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
"""Images that a layer which drops whole ones is asked about: with a chance of 0.4 %, in the first of 55 blocks, two
draws of a few mostly agree."""


class Observed(NamedTuple):
    """What only a framework sees of a stage; None where nobody looked.

    `paid` names the tensors whose gradients were computed, and the sign of it; `random` the places in
    the frozen part that do not answer one batch alike; `causes` end the sentence about a tensor; `others` are breaches
    that concern no tensor, `unchecked` further checks that were not made.
    """

    paid: Mapping[str, str] | None = None
    random: tuple[str, ...] | None = None
    causes: Mapping[str, str] = {}
    others: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


NOT_LOOKED = Observed()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Tensors of one kind: all, those declared frozen, those that moved, those whose gradients were paid for."""

    total: int = 0
    frozen: int = 0
    moved: int = 0
    paid: int | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one stage. `breaches` are sentences; `still` names trainable tensors too nearly without gradient.

    `rules` holds the rule of each breach; it is unset where there is none, and in records from before it was stored.
    `random` is None, and a sentence stands in `unchecked`, where nobody looked.
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
    """Compare two moments of one session with the stage between them.

    A trainable tensor that stood still is a breach, unless its optimizer state shows that no step could have reached
    its last bit: the shift before a batch norm has a gradient of exactly zero.
    """
    rates: dict[str, float] = {}

    def watch(tensor: Tensor) -> Watched:
        rates[tensor.name] = stage.learning_rate(tensor.part)
        return Watched(tensor.name, tensor.array, _kind(tensor), _declared(tensor, stage))

    def excuse(tensor: Watched, own: Mapping[str, NDArray[Any]]) -> bool:
        return out_of_reach(tensor.array, own, stage.optimizer, rates[tensor.name], stage.weight_decay)

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
    """Sum up a ledger: figures, and a sentence for each breach, in the ledger's order."""
    lines = list(lines)
    fixed = hashlib.sha256()
    for line in lines:
        if line.declared.moves is False:
            fixed.update(line.name.encode() + line.digest)
    moved, frozen = sum(line.moved for line in lines), any(line.declared.frozen for line in lines)
    breaches = [breach for line in lines for breach in ask(TENSOR_RULES, line, observed)] + ask(STAGE_RULES, observed)
    unchecked = [what for what, seen in _ASKED if frozen and getattr(observed, seen) is None]
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


_ASKED = (
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
def was_paid_for(line: TensorChange, observed: Observed) -> Iterator[str]:
    """The gradient of a frozen tensor was computed."""
    if line.declared.frozen and observed.paid and line.name in observed.paid:
        yield f"{line.name} was paid for although it is frozen: {observed.paid[line.name]}"


@rule("V13", "audit")
def is_random(observed: Observed) -> Iterator[str]:
    """A layer of the frozen part gives two answers for one batch: it drops units or draws noise."""
    yield from (f"{place} is random although it is frozen" for place in observed.random or ())


@rule("V09", "audit")
def otherwise(observed: Observed) -> Iterator[str]:
    """The model differs from its declaration in another way: a tensor is gone, or the output has another width."""
    yield from observed.others


TENSOR_RULES = (moved, did_not_move, has_optimizer_state, was_paid_for)
STAGE_RULES = (is_random, otherwise)


def _tally(lines: list[TensorChange], paid: Mapping[str, str] | None) -> Tally:
    return Tally(
        total=len(lines),
        frozen=sum(line.declared.frozen for line in lines),
        moved=sum(line.moved for line in lines),
        paid=None if paid is None else sum(line.name in paid for line in lines),
    )
