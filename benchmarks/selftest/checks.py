"""The product's checks by their rules' ids, and how to run the product without one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from benchmarks.datasets import arrays
from harness.running import checks
from results.rules import file_rules, pair_rules, record_rules, table_rules, time_rules
from results.tables import load

TABLES: tuple[tuple[ModuleType, str], ...] = (
    (record_rules, "RULES"),
    (file_rules, "FILE_RULES"),
    (time_rules, "TIME_RULES"),
    (pair_rules, "PAIR_RULES"),
    (table_rules, "FOLLOW_RULES"),
)
"""Where rules stand in tables, by id or by functions whose names begin with it."""
ALONE: tuple[tuple[Any, str, Any], ...] = (
    (checks, "v02_everything_loaded", lambda session, start: None),
    (checks, "v08_head_answers", lambda session, case, classes, images: None),
    (arrays, "v24_no_image_in_two_splits", lambda name, arrays: None),
    (time_rules, "v41_not_steady", lambda record: False),
    (record_rules, "v50_not_without_a_reason", lambda record: record),
    (load._Reading, "v50_lacking", lambda reading: iter(())),
    (load._Reading, "v50_unread", lambda reading: iter(())),
)
"""Checks that stand alone, with what they say when they are switched off: nothing."""


def ids(sentence: str) -> list[str]:
    """Rules that a sentence names.

    >>> ids("void: step times were rounded (V51)")
    ['V51']
    """
    return re.findall(r"V\d\d", sentence)


def sentence(text: str, rule: str) -> str:
    """Of several sentences in one line, that of a rule.

    >>> sentence("V07: 9 updates in 18 steps; V45: a half", "V45")
    'V45: a half'
    """
    return next((part for part in text.split("; ") if rule in ids(part)), text)


@contextmanager
def without(switched_off: Sequence[str]) -> Iterator[None]:
    """The product without the checks of these rules."""
    with ExitStack() as stack:
        for module, name in TABLES:
            table = getattr(module, name)
            left = {key: rule for key, rule in table.items() if not _is_of(key, rule, switched_off)}
            stack.enter_context(patch.object(module, name, left))
        for place, name, silent in ALONE:
            if _of_name(name) in switched_off:
                stack.enter_context(patch.object(place, name, silent))
        yield


def _is_of(key: str, rule: Any, switched_off: Sequence[str]) -> bool:
    return key in switched_off or _of_name(getattr(rule, "__name__", "")) in switched_off


def _of_name(function: str) -> str:
    return function.partition("_")[0].upper()
