"""Compare this checkout with the one it started from, case by case, for CI: what got worse, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from benchmarks.choosing.selection import SelectedCase
from benchmarks.choosing.suites import SUITES, case_label
from benchmarks.comparing.comparison_run import ComparisonRun
from benchmarks.comparing.installations import Installation
from benchmarks.comparing.repository import Incomparable, merge_base
from benchmarks.comparing.sides import SideSpec
from benchmarks.entry import SUITE_CASES
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.environment import HERE
from results.storage.comparison import Comparison
from results.storage.folder import RESULTS
from results.verdicts.accepted import Acceptance, accepted_by

FINE, REGRESSION, USAGE, FAILED, NO_BASE, UNDECIDED = 0, 1, 2, 3, 4, 5
"""Exit codes."""


class GateResult(NamedTuple):
    """Comparisons; cases that only the base has; cases that only this checkout has; what could not be measured."""

    comparisons: list[Comparison]
    missing: list[str]
    new: list[str]
    failed: list[str]


def base_spec(base: str) -> SideSpec:
    """The base as side A: a checkout's folder, or the commit at which a revision and HEAD part. Raises `Refused`."""
    if Path(base).is_dir():
        return SideSpec("A", f"dir:{base}", {}, folder=Path(base))
    return SideSpec("A", f"merge base of {base}", {}, revision=merge_base(base))


def base_results(results: Path, root: Path) -> Path:
    """The results folder of a base's checkout: at the same place as this checkout's, or else at the default one."""
    own = results.resolve()
    return root / (own.relative_to(HERE.root) if own.is_relative_to(HERE.root) else RESULTS)


def base_cases(found: Installation, suite: str) -> list[str]:
    """Labels of the suite's cases at the base. Raises `Incomparable` for a base that has no such suite."""
    # A file is the checkout's own, so that a case which only one of both has is noticed.
    arguments = {"suite": suite if suite in SUITES else str(found.place.root / suite)}
    try:
        return ask(SUITE_CASES, arguments, list[str], timeout_s=120, place=found.place)
    except (Declined, Refused) as error:
        raise Incomparable(f"the base says nothing of suite {suite}: {error}") from error


def gate(
    run: ComparisonRun,
    base: SideSpec,
    cases: Sequence[SelectedCase],
    known: Sequence[str],
    acceptances: Sequence[Acceptance],
    delay: float = 0.0,
) -> GateResult:
    """Compare every case that both have; `known` are labels of the base's. A case that fails does not stop the others.

    `delay` is injected here, to try the gate.
    """
    ours = {case_label(selected.case): selected for selected in cases}
    missing = [label for label in known if label not in ours]
    new = [label for label in ours if label not in known]
    here = SideSpec("B", "here", {}, delay=delay)
    prepared, declined = [], []
    for label, selected in ours.items():
        if label in new:
            continue
        first = selected._replace(case=replace(selected.case, seed=0))
        try:
            prepared += run.prepare((base, here), [(first, first)], None)
        except Incomparable:
            raise
        except Declined as error:
            declined.append(f"{label}: {error}")
    measured = run.measure(prepared, "gate")
    comparisons = [_with_acceptance(one, acceptances) for one in measured.comparisons]
    run.store_again(one for one in comparisons if one.accepted)
    return GateResult(comparisons, missing, new, declined + measured.failed)


def exit_code(found: GateResult, fail_on: Literal["regression", "inconclusive"]) -> int:
    """A regression before everything else; then what is missing or failed; then what could not be decided."""
    if any(one.verdict == "regression" and not one.accepted for one in found.comparisons):
        return REGRESSION
    if found.missing or found.failed or not found.comparisons:
        return FAILED
    undecided = any(one.verdict == "inconclusive" for one in found.comparisons)
    return UNDECIDED if undecided and fail_on == "inconclusive" else FINE


def _with_acceptance(one: Comparison, acceptances: Sequence[Acceptance]) -> Comparison:
    """Mark a regression as accepted, with the reasons, if every metric that got worse is accepted."""
    if one.verdict != "regression":
        return one
    reasons = [accepted_by(f, one.label, acceptances) for f in one.findings if f.verdict == "regression"]
    return replace(one, accepted="; ".join(reason for reason in reasons if reason)) if all(reasons) else one
