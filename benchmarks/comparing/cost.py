"""The expected time of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.sharding import Item, identity
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.pairs import ROUNDS
from benchmarks.comparing.prepare import label_of
from benchmarks.comparing.sides import SideCases, SideSpec
from benchmarks.running.forecast import START_S, expected_s, nominal_s
from benchmarks.running.terminal import aligned
from harness.process.machine import usable_cores
from results.storage.comparison import LOOKS


class ExpectedCost(NamedTuple):
    """The least and the most seconds."""

    least_s: float
    most_s: float


def cost(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> str:
    """Return one line per case with its least and its longest time, and the sum. Measures nothing."""
    rows, each = [], costs(cases, limits, results, catalogue)
    for sides, (low, high) in zip(cases, each, strict=True):
        label = " | ".join(dict.fromkeys(f"{d.case.backend_name}/{d.case.model}/{d.case.scenario.name}" for d in sides))
        rows.append((label, f"{low / 60:.0f} to {high / 60:.0f} min"))
    lines = [aligned(rows, right={1})] if rows else []
    least, most = (sum(side) for side in zip(*each, strict=True)) if each else (0.0, 0.0)
    lines.append(
        f"{len(cases)} cases: {least / 60:.0f} min if the verdicts are clear after {LOOKS[0]} pairs, {most / 60:.0f} "
        f"min if all {limits.pairs} pairs and a re-run are needed; {limits.seeds} seeds of each side"
    )
    if limits.budget_s is not None:
        lines.append(f"--budget ends it after {limits.budget_s / 60:g} min; unfinished cases are then inconclusive")
    return "\n".join(lines)


def costs(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> list[ExpectedCost]:
    """Return the cost of each case, without the budget, which limits all cases together."""
    runs = expected_s([selected.case for sides in cases for selected in sides], results, catalogue)
    found = []
    for sides, both_s in zip(cases, zip(runs[::2], runs[1::2], strict=True), strict=True):
        pair_s, runs_s = pair_seconds(sides, limits), limits.seeds * sum(both_s)
        first = limits.pairs if limits.every_pair else LOOKS[0]
        times = 2 if limits.confirm else 1
        found.append(ExpectedCost(first * pair_s + runs_s, times * (limits.pairs * pair_s + runs_s)))
    return found


def total(cases: Sequence[SideCases], limits: Limits, results: Path, catalogue: Catalogue) -> ExpectedCost:
    """Return the cost of all cases together, within the budget."""
    each = costs(cases, limits, results, catalogue)
    budget_s = float("inf") if limits.budget_s is None else limits.budget_s
    return ExpectedCost(min(budget_s, sum(one.least_s for one in each)), min(budget_s, sum(one.most_s for one in each)))


def comparison_items(
    specs: Sequence[SideSpec], cases: Sequence[SideCases], limits: Limits, catalogue: Catalogue
) -> list[Item[SideCases]]:
    """Return the items of a plan of comparisons, with seconds that are the same on every machine.

    Interpreters are not a part of the plan, because machines may have them in different places.
    """
    texts = [(spec.text, spec.delay) for spec in specs]
    return [
        Item(
            value=sides,
            label=label_of(sides[0].case, sides[1].case),
            seconds=_nominal_s(sides, limits, catalogue),
            identity=(texts, *(identity(selected, threads=False) for selected in sides)),
            together=place,
        )
        for place, sides in enumerate(cases)
    ]


def _nominal_s(sides: SideCases, limits: Limits, catalogue: Catalogue) -> float:
    pair_s = sum(START_S.get(selected.case.backend, 1.0) for selected in sides) + 4 * ROUNDS * limits.turn_s
    return limits.pairs * pair_s + limits.seeds * sum(nominal_s(selected.case, catalogue) for selected in sides)


def pair_seconds(sides: SideCases, limits: Limits) -> float:
    """Return the seconds of a pair of processes: the start, in parallel if there are enough cores, and the turns."""
    each = [START_S.get(selected.case.backend, 1.0) for selected in sides]
    beside = not limits.alternate and sum(selected.case.cores for selected in sides) <= len(usable_cores())
    return 4 * ROUNDS * limits.turn_s + (max(each) if beside else sum(each))
