"""The freeze audit of any model around any code that trains it: `with Auditor(…): train()`.

What a framework has to show for it is a `Watch`; `backends.pytorch.audit` and `backends.keras3.audit` make them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

from numpy.typing import NDArray

from harness.auditing.audit import Audit, Observed, verdict
from harness.auditing.ledger import Declared, Kind, Slots, TensorChange, TensorMark, Watched, ledger, mark

Norm = Literal["auto", "batch", "frozen"]
"""As in `harness.spec.Stage`: which statistics move. `auto`: those that are not frozen; `batch` all; `frozen` none."""
Frozen = Callable[[str], bool] | Iterable[Any]


class Breached(AssertionError):
    """What was declared is not what happened; the message is the report."""


class CurrentTensor(NamedTuple):
    """A parameter or buffer as it is now; the array may be a view."""

    name: str
    array: NDArray[Any]
    kind: Kind


class Watch(Protocol):
    """How a framework lets one model be watched from `begin` to `end`."""

    frozen: frozenset[str]
    """Names of the tensors that are declared frozen."""

    def begin(self) -> None:
        """Start looking at what cannot be seen afterwards."""
        ...

    def end(self) -> None:
        """Stop looking, and leave nothing behind; called whatever the block did."""
        ...

    def tensors(self) -> Iterator[CurrentTensor]:
        """Every parameter and buffer now, in a fixed order."""
        ...

    def slots(self) -> Slots:
        """Optimizer state by tensor; arrays may be made as they are read."""
        ...

    def excuses(self, tensor: Watched, slots: Mapping[str, NDArray[Any]]) -> bool:
        """Whether a trainable parameter may have stood still, for want of a gradient that could move it."""
        ...

    def explain(self, line: TensorChange) -> str:
        """Why a tensor did otherwise than declared, as the end of a sentence; empty if that cannot be told."""
        ...

    def observed(self, lines: list[TensorChange]) -> Observed:
        """What else was seen; asked after `end`."""
        ...


class Auditor:
    """Marks a model's tensors on entering a block and judges what became of them on leaving it.

    After an exception nothing is judged. `audit` holds figures and breaches, `ledger` a line per tensor; both, and
    `report`, raise RuntimeError before the block has ended well.
    """

    def __init__(self, watch: Watch, norm: Norm) -> None:
        if norm not in ("auto", "batch", "frozen"):
            raise ValueError(f'norm={norm!r} is none of "auto", "batch" and "frozen"')
        self._watch, self._norm = watch, norm
        self._before: dict[str, TensorMark] = {}
        self._slots_before: dict[str, dict[str, TensorMark]] = {}
        self._judged: tuple[list[TensorChange], Audit] | None = None

    def __enter__(self) -> Self:
        self._judged, watch = None, self._watch
        self._before = mark(watch.tensors())
        self._slots_before = {
            name: mark(CurrentTensor(slot, own[slot], "buffer") for slot in own)
            for name, own in watch.slots().items()
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
        """Figures and breaches."""
        return self._outcome[1]

    @property
    def ledger(self) -> list[TensorChange]:
        """One line per parameter and buffer."""
        return self._outcome[0]

    @property
    def report(self) -> str:
        """What was found, for people: a line of figures, then one sentence per breach, then what was not checked."""
        return describe(self.audit)

    def require(self) -> None:
        """Raises `Breached`, an AssertionError, if anything is otherwise than declared."""
        if self.audit.breaches:
            raise Breached(self.report)

    @property
    def _outcome(self) -> tuple[list[TensorChange], Audit]:
        if self._judged is None:
            raise RuntimeError("nothing is judged before the block has ended without an exception")
        return self._judged


def _otherwise(line: TensorChange) -> bool:
    return line.declared.moves is not None and line.moved != line.declared.moves and not line.excused


def declare(kind: Kind, frozen: bool, norm: Norm) -> Declared:
    """What is declared of a tensor of a user's model."""
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
    """Names of the frozen tensors, and the modules that were named whole.

    `frozen` is a predicate on tensors' names, or one or more modules and beginnings of names. `members` gives the names
    that a module or a beginning means, which may be none, or None if it means nothing. Raises ValueError then.
    """
    if isinstance(frozen, str) or members(frozen) is not None:
        frozen = (frozen,)
    if callable(frozen):
        found = frozenset(name for name in names if frozen(name))
        if not found:
            raise ValueError(f"frozen() holds for none of {_some(names)}")
        return found, ()
    whole, found = tuple(frozen), frozenset()
    for one in whole:
        own = members(one)
        if own is None:
            raise ValueError(f"frozen: {one!r} means none of {_some(names)}")
        found |= frozenset(own)
    return found, whole


def beginning(start: str, names: Collection[str], separator: str) -> list[str]:
    """Names that are `start` or begin with it as whole parts.

    >>> beginning("layer1", ["layer1.weight", "layer10.weight"], ".")
    ['layer1.weight']
    """
    stem = start.removesuffix(separator)
    return [name for name in names if name == stem or name.startswith(stem + separator)]


def _some(names: Collection[str]) -> str:
    listed = list(names)
    return f"the model's {len(listed)} tensors ({', '.join(listed[:3])}, …)"


ALIKE = 5
"""Sentences of one kind that a report prints."""


def describe(audit: Audit) -> str:
    """An audit as text. Of breaches that differ in their tensor alone, the first few are printed and the rest counted.

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
    return "\n".join(lines + [f"not checked: {what}" for what in audit.unchecked])


def _without_names(sentence: str) -> str:
    return " ".join(word for word in sentence.split() if not set(word) & set("./_"))
