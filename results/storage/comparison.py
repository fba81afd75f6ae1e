"""A comparison as data: its two sides, their differences, and a finding for each metric."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import field

Verdict = Literal["regression", "improvement", "no change", "inconclusive"]
LOOKS = (10, 15, 20)
"""Numbers of pairs after which a comparison is evaluated and may stop."""
Purpose = Literal["compare", "noise", "gate", "bisect", "scaling"]


class SideFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison. `text` is its name in the command; `revision` is a commit, `python` an interpreter."""

    name: str
    text: str = field(name="said")
    case_version: str = ""
    revision: str = ""
    python: str = ""
    packages: str = ""
    injected: float = 0.0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between the sides, with its value in A and in B."""

    field: str
    a: str
    b: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one metric. `change` is the log of the cost of B over that of A; positive is worse.

    `low` and `high` are its interval, `detectable` the smallest change that these replicates can show. With the `unit`
    `points` all of them are losses of accuracy in points. `replicates` are pairs of processes, or seeds of each side.
    `note` says why there is no result; `explanation` adds information without influence on the verdict.
    """

    metric: str
    unit: Literal["log-ratio", "points"] = "log-ratio"
    verdict: Verdict
    change: float
    low: float
    high: float
    p: float
    p_adjusted: float | None = None
    replicates: int
    margin: float
    detectable: float
    looks: int = 0
    note: str = ""
    explanation: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one case. `confirmation` has the findings of an independent re-run.

    `order_seed` is the seed of the random order. `differs` is empty for an A/A test. `verdict` is that of the whole
    comparison: a regression counts only after confirmation.
    """

    name: str = field(name="comparison")
    purpose: Purpose = "compare"
    label: str
    sides: tuple[SideFacts, SideFacts] = field(name="arms")
    differs: tuple[Difference, ...] = ()
    findings: tuple[Finding, ...] = ()
    confirmation: tuple[Finding, ...] = ()
    verdict: Verdict
    sentence: str = ""
    order_seed: int = 0
    repeated_pairs: int = 0
    seconds: float = 0.0
    accepted: str = ""
