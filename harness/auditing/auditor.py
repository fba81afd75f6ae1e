"""The freeze audit of any model during any training code: `with Auditor(…): train()`.

A `Watch` connects it to a framework; `backends.pytorch.audit` and `backends.keras3.audit` create one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self, TypedDict

from numpy.typing import NDArray

from harness.auditing.audit import Audit, Observed, verdict
from harness.auditing.ledger import Declared, Kind, Slots, TensorChange, TensorMark, Watched, ledger, mark

Norm = Literal["auto", "batch", "frozen"]
"""Batch-norm statistics that move, as in `harness.spec.Stage`: `auto` those not frozen, `batch` all, `frozen` none."""
Frozen = Callable[[str], bool] | Iterable[Any]


class AuditOptions(TypedDict, total=False):
    """The options of `backends.pytorch.audit` and `backends.keras3.audit`, which explain them."""

    frozen: Frozen
    norm: Norm
    optimizer: Any
    batch: Any
    classes: int | None


class Breached(AssertionError):
    """The training did not do what was declared; the message is the report."""


class CurrentTensor(NamedTuple):
    """The current value of a parameter or buffer; the array may be a view."""

    name: str
    array: NDArray[Any]
    kind: Kind


class Watch(Protocol):
    """The observation of one model by its framework, from `begin` to `end`."""

    frozen: frozenset[str]
    """Names of the tensors that are declared frozen."""

    def begin(self) -> None:
        """Start to observe what is not visible after training."""

    def end(self) -> None:
        """Stop the observation and remove all hooks; called even if the block raised."""

    def tensors(self) -> Iterator[CurrentTensor]:
        """Yield every parameter and buffer with its current value, in a fixed order."""

    def slots(self) -> Slots:
        """Return the optimizer state by tensor; arrays may be created when they are read."""

    def excuses(self, tensor: Watched, slots: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether the gradients of a trainable parameter that did not move may have been too small."""

    def explain(self, line: TensorChange) -> str:
        """Return why a tensor differs from its declaration, as the end of a sentence; empty if unknown."""

    def observed(self, lines: list[TensorChange]) -> Observed:
        """Return the other observations; called after `end`."""


class Auditor:
    """A context manager that records a model's tensors on entry and compares them with the declaration on exit.

    `audit` holds counts and breaches, `ledger` one line per tensor. Both, and `report`, raise RuntimeError until the
    block has ended without an exception.
    """

    def __init__(self, watch: Watch, norm: Norm) -> None:
        if norm not in ("auto", "batch", "frozen"):
            raise ValueError(f'norm={norm!r} is not one of "auto", "batch" and "frozen"')
        self._watch, self._norm = watch, norm
        self._before: dict[str, TensorMark] = {}
        self._slots_before: dict[str, dict[str, TensorMark]] = {}
        self._judged: tuple[list[TensorChange], Audit] | None = None

    def __enter__(self) -> Self:
        self._judged, watch = None, self._watch
        self._before = mark(watch.tensors())
        self._slots_before = {
            name: mark(CurrentTensor(slot, state[slot], "buffer") for slot in state)
            for name, state in watch.slots().items()
            if name in watch.frozen
        }
        watch.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.end()
        if kind is None:
            self._judge()

    def _judge(self) -> None:
        watch = self._watch
        lines = ledger(
            self._before, map(self._declare, watch.tensors()), watch.slots(), watch.excuses, self._slots_before
        )
        observed = watch.observed(lines)
        causes = {line.name: watch.explain(line) for line in lines if _otherwise(line)}
        gone = self._before.keys() - {line.name for line in lines}
        others = (*observed.others, *(f"{name} is gone" for name in self._before if name in gone))
        self._judged = lines, verdict(lines, observed._replace(causes=causes, others=others))

    def _declare(self, seen: CurrentTensor) -> Watched:
        return Watched(*seen, declare(seen.kind, seen.name in self._watch.frozen, self._norm))

    @property
    def audit(self) -> Audit:
        """Counts and breaches."""
        return self._outcome[1]

    @property
    def ledger(self) -> list[TensorChange]:
        """One line per parameter and buffer."""
        return self._outcome[0]

    @property
    def report(self) -> str:
        """The audit as text: a line of counts, one sentence per breach, and the checks that were not made."""
        return describe(self.audit)

    def require(self) -> None:
        """Raise `Breached`, an AssertionError, if anything differs from the declaration."""
        if self.audit.breaches:
            raise Breached(self.report)

    @property
    def _outcome(self) -> tuple[list[TensorChange], Audit]:
        if self._judged is None:
            raise RuntimeError("the audit has no result before its block has ended without an exception")
        return self._judged


def _otherwise(line: TensorChange) -> bool:
    return line.declared.moves is not None and line.moved != line.declared.moves and not line.excused


def declare(kind: Kind, frozen: bool, norm: Norm) -> Declared:
    """Return what is declared for a tensor of a user's model."""
    state = "it is frozen" if frozen else "it is not frozen"
    if kind in ("statistic", "counter"):
        batch = not frozen if norm == "auto" else norm == "batch"
        moves = (None if kind == "counter" else True) if batch else False
        return Declared(frozen, moves, state if norm == "auto" else f'norm="{norm}"')
    if kind == "buffer":
        return Declared(frozen, False if frozen else None, state)
    return Declared(frozen, not frozen, state)


def chosen(
    frozen: Frozen, names: Collection[str], members: Callable[[Any], Collection[str] | None]
) -> tuple[frozenset[str], tuple[Any, ...]]:
    """Return the names of the frozen tensors, and the modules and prefixes that were given.

    `frozen` is a predicate on tensor names, or one or more modules and prefixes of names. `members` returns the names
    that belong to a module or prefix (maybe an empty collection), or None if the model has no such part. Raises
    ValueError for an unknown part and for a predicate that is true for no tensor.
    """
    if isinstance(frozen, str) or members(frozen) is not None:
        frozen = (frozen,)
    if callable(frozen):
        found = frozenset(name for name in names if frozen(name))
        if not found:
            raise ValueError(f"frozen() is true for none of {_some(names)}")
        return found, ()
    whole, found = tuple(frozen), frozenset()
    for one in whole:
        inside = members(one)
        if inside is None:
            raise ValueError(f"frozen: {one!r} matches none of {_some(names)}")
        found |= frozenset(inside)
    return found, whole


def beginning(start: str, names: Collection[str], separator: str) -> list[str]:
    """Return the names that equal `start` or begin with it, compared by whole parts.

    >>> beginning("layer1", ["layer1.weight", "layer10.weight"], ".")
    ['layer1.weight']
    """
    stem = start.removesuffix(separator)
    return [name for name in names if name == stem or name.startswith(stem + separator)]


def innermost(names: Iterable[str], separator: str) -> tuple[str, ...]:
    """Return the innermost of these modules, each once; "" is the whole model and becomes `the model`.

    >>> innermost(["", "layer1", "layer1.conv", "layer1.conv"], ".")
    ('layer1.conv',)
    """
    found = dict.fromkeys(names)
    outer = {one for one in found for other in found if other != one and (not one or other.startswith(one + separator))}
    return tuple(one or "the model" for one in found if one not in outer)


def _some(names: Collection[str]) -> str:
    listed = list(names)
    return f"the model's {len(listed)} tensors ({', '.join(listed[:3])}, …)"


ALIKE = 5
"""Number of similar sentences that a report prints."""


def describe(audit: Audit) -> str:
    """Return an audit as text. If breaches differ only in the tensor, the first few are printed and the rest counted.

    >>> print(describe(Audit(moved=1, fixed=1, frozen_sha256="", breaches=("a moved although it is frozen",))))
    1 breach; 1 of 2 tensors moved
    - a moved although it is frozen
    """
    count = len(audit.breaches)
    tensors = audit.moved + audit.fixed
    lines = [f"{count or 'no'} breach{'es' * (count != 1)}; {audit.moved} of {tensors} tensors moved"]
    alike: Counter[str] = Counter()
    for sentence in audit.breaches:
        kind = _without_names(sentence)
        alike[kind] += 1
        if alike[kind] <= ALIKE:
            lines.append(f"- {sentence}")
    lines += [f"- … {kind}: {n - ALIKE} more" for kind, n in alike.items() if n > ALIKE]
    return "\n".join(lines + [f"not checked: {check}" for check in audit.unchecked])


def _without_names(sentence: str) -> str:
    return " ".join(word for word in sentence.split() if not set(word) & set("./_"))
