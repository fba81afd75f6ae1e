"""What every import of somebody else's file keeps to: a part is no whole, and a choice is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from harness.errors import Refused

IMPORT = 2
"""Raised when an import comes to other tensors or notes than before, so that no older one is taken from the cache."""

_noted: ContextVar[list[str]] = ContextVar("_noted")


def note(sentence: str) -> None:
    """Say what an import decided where its file leaves a choice; within `noted`, it ends on the case's line."""
    _noted.get([]).append(sentence)


@contextmanager
def noted() -> Iterator[list[str]]:
    """The sentences that are noted meanwhile."""
    sentences: list[str] = []
    token = _noted.set(sentences)
    try:
        yield sentences
    finally:
        _noted.reset(token)


def refuse_part(path: str, model: str, total: int, missing: Sequence[str], misfits: Sequence[str]) -> NoReturn:
    """Raise `Refused` for a file without some of the `total` tensors that a model takes from a checkpoint.

    `misfits` are tensors that are there but have another shape or type, each with what it is and what it should be.
    """
    parts = [f"{len(missing)} of its {total} tensors are missing ({some(missing)})"] if missing else []
    parts += [f"{len(misfits)} of its {total} tensors do not fit ({some(misfits)})"] if misfits else []
    raise Refused(f"{path} holds only a part of a {model}: {', '.join(parts)}; save the whole network again")


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
