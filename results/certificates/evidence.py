"""The answers of the processes of a certificate, and checks from two answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.certifying.answers import ArmAnswers
from results.certificates.certificate import Check

UNBOUNDED = 1e300
"""Replaces infinity and NaN, which JSON does not have."""


class ArmEvidence(NamedTuple):
    """The answers of one process of an arm; arrays are read on access."""

    facts: ArmAnswers
    arrays: Mapping[str, NDArray[Any]]

    def under(self, prefix: str) -> list[str]:
        """Return the names of the arrays with this prefix, without the prefix."""
        return [name.removeprefix(prefix) for name in self.arrays if name.startswith(prefix)]


class EvidencePair(NamedTuple):
    """Both arms in float64 (`wide`) and in the precision of the certificate (`narrow`)."""

    wide: tuple[ArmEvidence, ArmEvidence]
    narrow: tuple[ArmEvidence, ArmEvidence]


def open_answers(facts: ArmAnswers, folder: Path) -> ArmEvidence:
    """Read the answers of a worker that ran in `folder`."""
    return ArmEvidence(facts, np.load(folder / "arrays.npz"))


def both(arms: tuple[ArmEvidence, ArmEvidence], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return arms[0].arrays[name], arms[1].arrays[name]


def relative_max(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference over the largest value; infinite for different shapes."""
    if one.shape != other.shape:
        return math.inf
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), np.finfo(np.float64).tiny))


def none_of(level: int, rule: str, what: str, odd: Collection[str], scenario: str | None = None) -> Check:
    return at_most(level, rule, what, len(odd), 0, some(sorted(odd)), scenario=scenario)


def worst(
    level: int,
    rule: str,
    what: str,
    errors: Mapping[str, float],
    limit: float,
    *,
    scenario: str | None = None,
    note: str = "",
) -> Check:
    where = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name]) if errors else ""
    return at_most(level, rule, what, errors.get(where, 0.0), limit, where, scenario=scenario, note=note)


def at_most(
    level: int,
    rule: str,
    what: str,
    worst: float,
    limit: float,
    where: str = "",
    *,
    scenario: str | None = None,
    note: str = "",
) -> Check:
    return Check(
        level=level,
        rule=rule,
        what=what,
        worst=float(worst) if math.isfinite(worst) else UNBOUNDED,
        limit=float(limit),
        passed=bool(worst <= limit),
        where=where,
        scenario=scenario,
        note=note,
    )


def some(names: Collection[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(list(names)[:limit]) + more
