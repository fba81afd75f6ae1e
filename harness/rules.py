"""The types of a rule and of its breach. `results.rules.registry` lists all rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, Literal, NamedTuple, ParamSpec

from harness.errors import Refused

Scope = Literal[
    "dataset", "session", "audit", "record", "files", "times", "mark", "pair", "certificate", "table", "folder"
]
"""The object that a check looks at (see `results.rules.registry.SCOPES`)."""
P = ParamSpec("P")
Finding = str | tuple[str, str]
"""The text of a breach, or its place and its text."""
_off: ContextVar[frozenset[str]] = ContextVar("_off", default=frozenset())


class Breach(NamedTuple):
    """One breach: the id of the rule, the place if there are several, and the finding."""

    rule: str
    where: str
    text: str

    @property
    def words(self) -> str:
        """Place and text, without the id."""
        return f"{self.where}: {self.text}" if self.where else self.text

    def __str__(self) -> str:
        """Return the breach as it is stored and printed.

        >>> str(Breach("V07", "stage 2", "45 forwards in 44 steps"))
        'V07: stage 2: 45 forwards in 44 steps'
        """
        return f"{self.rule}: {self.words}"


class Rule(NamedTuple, Generic[P]):
    """One check of the rule `id`. `sentence` describes a breach; `label` is its short name in a table.

    The check yields its findings, or returns whether there is a breach; the text of that breach is the label.
    """

    id: str
    sentence: str
    scope: Scope
    check: Callable[P, Iterable[Finding] | bool]
    label: str = ""

    def __call__(self, *evidence: P.args, **named: P.kwargs) -> list[Breach]:
        """Return every breach in the evidence; none while the rule is switched off."""
        found = () if self.id in switched_off() else self.check(*evidence, **named)
        if found is False:  # the usual case, for each of thousands of records
            return []
        findings = (self.label,) if found is True else found
        return [Breach(self.id, *(("", one) if isinstance(one, str) else one)) for one in findings]


def rule(id: str, scope: Scope, label: str = "") -> Callable[[Callable[P, Iterable[Finding] | bool]], Rule[P]]:
    """Turn a check into a rule; the first paragraph of its docstring is the sentence."""

    def made(check: Callable[P, Iterable[Finding] | bool]) -> Rule[P]:
        return Rule(id, " ".join((check.__doc__ or "").partition("\n\n")[0].split()), scope, check, label)

    return made


def ask(rules: Iterable[Rule[P]], *evidence: P.args, **named: P.kwargs) -> list[Breach]:
    """Return every breach of several rules in the same evidence."""
    return [breach for rule in rules for breach in rule(*evidence, **named)]


class BrokenRule(Refused):
    """A breach that stops the work; the message is the breach."""

    def __init__(self, breach: Breach) -> None:
        super().__init__(str(breach))
        self.breach = breach


def require(breaches: Iterable[Breach]) -> None:
    """Raise `BrokenRule` for the first breach."""
    for breach in breaches:
        raise BrokenRule(breach)


def read_breaches(reason: str) -> Iterator[Breach | str]:
    """Yield the breaches in the reason of a stored record; text before the first breach stays text.

    >>> [str(one) for one in read_breaches("V07: 9 updates in 18 steps; V45: a half")], list(read_breaches("no CUDA"))
    (['V07: 9 updates in 18 steps', 'V45: a half'], ['no CUDA'])
    """
    for part in filter(None, re.split(r"(?:^|; )(?=V\d\d: )", reason)):
        id, _, words = part.partition(": ")
        yield Breach(id, "", words) if re.fullmatch(r"V\d\d", id) else part


@contextmanager
def without(ids: Collection[str]) -> Iterator[None]:
    """Switch off every check of these rules."""
    token = _off.set(frozenset(ids))
    try:
        yield
    finally:
        _off.reset(token)


def switched_off() -> frozenset[str]:
    """Return the ids of the rules that are switched off."""
    return _off.get()
