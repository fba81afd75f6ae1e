"""What a comparison will cost, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.pairs import QUADS
from benchmarks.comparing.sides import SideCases
from benchmarks.running.forecast import START_S, expected_s
from benchmarks.running.terminal import aligned
from harness.process.machine import usable_cores
from results.storage.comparison import LOOKS

TURNS = 4 * QUADS


class ExpectedCost(NamedTuple):
    """The least and the most seconds that something takes."""

    least_s: float
    most_s: float


def cost(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> str:
    """A line per case with the least and the most it takes, and the sum. Measures nothing."""
    rows, each = [], costs(cases, limits, results, catalogue)
    for sides, (low, high) in zip(cases, each, strict=True):
        label = " | ".join(dict.fromkeys(f"{d.case.backend_name}/{d.case.model}/{d.case.scenario.name}" for d in sides))
        rows.append((label, f"{low / 60:.0f} to {high / 60:.0f} min"))
    lines = [aligned(rows, right={1})] if rows else []
    least, most = (sum(side) for side in zip(*each, strict=True)) if each else (0.0, 0.0)
    lines.append(
        f"{len(cases)} cases: {least / 60:.0f} min if the first look at {LOOKS[0]} pairs decides, {most / 60:.0f} min "
        f"if all {limits.pairs} pairs are needed, twice because of a re-run; {limits.seeds} seeds of each side"
    )
    if limits.budget_s is not None:
        lines.append(f"--budget ends it after {limits.budget_s / 60:g} min; what is open then is inconclusive")
    return "\n".join(lines)


def costs(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> list[ExpectedCost]:
    """What each case costs; the budget, which ends all of them together, is left out."""
    runs = expected_s([selected.case for sides in cases for selected in sides], results, catalogue)
    found = []
    for sides, both_s in zip(cases, zip(runs[::2], runs[1::2], strict=True), strict=True):
        pair_s, runs_s = pair_seconds(sides, limits), limits.seeds * sum(both_s)
        first = limits.pairs if limits.every_pair else LOOKS[0]
        times = 2 if limits.confirm else 1
        found.append(ExpectedCost(first * pair_s + runs_s, times * (limits.pairs * pair_s + runs_s)))
    return found


def total(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> ExpectedCost:
    """What all cases cost together, within the budget."""
    each = costs(cases, limits, results, catalogue)
    budget_s = float("inf") if limits.budget_s is None else limits.budget_s
    return ExpectedCost(min(budget_s, sum(one.least_s for one in each)), min(budget_s, sum(one.most_s for one in each)))


def pair_seconds(sides: SideCases, limits: Limits) -> float:
    """Seconds that a pair of processes takes: both start, side by side where there are cores for it, then the turns."""
    each = [START_S.get(selected.case.backend, 1.0) for selected in sides]
    beside = not limits.alternate and sum(selected.case.threads for selected in sides) <= len(usable_cores())
    return TURNS * limits.turn_s + (max(each) if beside else sum(each))
