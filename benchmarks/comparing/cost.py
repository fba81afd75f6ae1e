"""What a comparison will cost, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.catalogue import Catalogue
from benchmarks.comparing.limits import Limits
from benchmarks.comparing.pairs import QUADS
from benchmarks.forecast import START_S, expected_s
from benchmarks.selection import Draft
from harness.machine import usable_cores
from results.comparison import LOOKS

TURNS = 4 * QUADS


def cost(cases: Sequence[tuple[Draft, Draft]], limits: Limits, results: Path, catalogue: Catalogue) -> str:
    """A line per case with the least and the most it takes, and the sum. Measures nothing."""
    lines, least, most = [], 0.0, 0.0
    for arms in cases:
        pair_s = TURNS * limits.turn_s + _start_s(arms, limits)
        runs_s = limits.seeds * sum(expected_s(draft.case, results, catalogue) for draft in arms)
        low, high = LOOKS[0] * pair_s + runs_s, 2 * (limits.pairs * pair_s + runs_s)
        label = " | ".join(dict.fromkeys(f"{d.case.backend_name}/{d.case.model}/{d.case.scenario.name}" for d in arms))
        lines.append(f"{label:60} {low / 60:.0f} to {high / 60:.0f} min")
        least, most = least + low, most + high
    lines.append(
        f"{len(cases)} cases: {least / 60:.0f} min if the first look at {LOOKS[0]} pairs decides, {most / 60:.0f} min "
        f"if all {limits.pairs} pairs are needed, twice because of a re-run; {limits.seeds} seeds of each arm"
    )
    if limits.budget_s is not None:
        lines.append(f"--budget ends it after {limits.budget_s / 60:g} min; what is open then is inconclusive")
    return "\n".join(lines)


def _start_s(arms: tuple[Draft, Draft], limits: Limits) -> float:
    """Seconds until both sides of a pair can begin: side by side where there are cores for it, else one by one."""
    each = [START_S.get(draft.case.backend, 1.0) for draft in arms]
    beside = not limits.alternate and sum(draft.case.threads for draft in arms) <= len(usable_cores())
    return max(each) if beside else sum(each)
