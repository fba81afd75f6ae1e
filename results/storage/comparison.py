"""A comparison of two sides as data: what they are, what differs between them, and what was found for each metric."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import field

Verdict = Literal["regression", "improvement", "no change", "inconclusive"]
LOOKS = (10, 15, 20)
"""Numbers of pairs after which a comparison may stop."""
Purpose = Literal["compare", "noise", "gate", "bisect"]


class SideFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison. `text` is how it was named; `revision` is a commit, `python` an interpreter."""

    name: str
    text: str = field(name="said")
    case_version: str = ""
    revision: str = ""
    python: str = ""
    packages: str = ""
    injected: float = 0.0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field in which the sides differ, with its value in A and in B."""

    field: str
    a: str
    b: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one metric. `change` is the log of B's cost over A's, positive is worse.

    `low` and `high` are its interval and `detectable` the smallest change that this many replicates could have shown,
    all three as `change`, or, where `unit` is `points`, differences of accuracy in points, positive is worse, too.
    `replicates` are pairs of processes, or seeds of each side. `note` says why there is no finding, `explanation` what
    stands beside one and decides nothing.
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
    """One case of two sides. `confirmation` is what an independent re-run found; `order_seed` made the random order.

    `differs` is empty for an A/A test. `verdict` is the whole's: a regression counts only once it is confirmed.
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
