"""Compare this checkout with its base, or two environments, in CI, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase
from benchmarks.choosing.suites import SUITES, case_label
from benchmarks.comparing.base_runs import BaseRuns
from benchmarks.comparing.comparison_run import ComparisonRun
from benchmarks.comparing.repository import Incomparable, merge_base, refuse_in_wheel
from benchmarks.comparing.sides import SideSpec, read_sides, sides_differ
from benchmarks.entry import SUITE_CASES
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.environment import HERE, Place
from results.storage.comparison import Comparison
from results.storage.folder import RESULTS
from results.verdicts.accepted import Acceptance, accepted_by

FINE, REGRESSION, USAGE, FAILED, NO_BASE, UNDECIDED = 0, 1, 2, 3, 4, 5
"""Exit codes."""


class GateResult(NamedTuple):
    """Comparisons; labels of cases that only the base has, that only this checkout has, and that failed."""

    comparisons: list[Comparison]
    missing: list[str]
    new: list[str]
    failed: list[str]


def read_gate_sides(
    base: str | None, pythons: Sequence[str], delays: Sequence[str], catalogue: Catalogue
) -> tuple[SideSpec, SideSpec]:
    """Return the base as side A and what is checked as side B: two states of this checkout, or two interpreters.

    `base` is the folder of a checkout, or a revision; its merge base with this one counts. Raises `Refused`.
    """
    if (base is None) == (not pythons):
        raise Refused("give --base REVISION, or two environments: --python A=old/bin/python --python B=new/bin/python")
    a, b = read_sides((), pythons, (), delays, catalogue)
    if base is None:
        if not sides_differ((a, b), ()):
            raise Refused("--python: A and B are the same; give two environments, or --base REVISION")
        return a, b
    refuse_in_wheel()
    if Path(base).is_dir():
        return a._replace(text=f"dir:{base}", folder=Path(base)), b
    return a._replace(text=f"merge base of {base}", revision=merge_base(base)), b


def base_results(results: Path, root: Path) -> Path:
    """Return the folder of results in the base's checkout: at the same place as here, or else the default one."""
    here = results.resolve()
    return root / (here.relative_to(HERE.root) if here.is_relative_to(HERE.root) else RESULTS)


def base_cases(place: Place, suite: str, plugins: Sequence[str]) -> list[str]:
    """Return the labels of the suite's cases at the base. Raises `Incomparable` if the base does not have the suite."""
    # Each checkout reads its own file, to notice a case that only one of the two has.
    arguments: dict[str, object] = {"suite": suite if suite in SUITES else str(place.root / suite)}
    if plugins:  # an argument that older revisions do not have
        arguments["plugins"] = [str(Path(plugin).resolve()) for plugin in plugins]
    try:
        return ask(SUITE_CASES, arguments, list[str], timeout_s=120, place=place)
    except (Declined, Refused) as error:
        raise Incomparable(f"the base cannot read suite {suite}: {error}") from error


def gate(
    run: ComparisonRun,
    sides: tuple[SideSpec, SideSpec],
    cases: Sequence[SelectedCase],
    known: Sequence[str],
    acceptances: Sequence[Acceptance],
    base_runs: BaseRuns | None = None,
) -> GateResult:
    """Compare every case that both have; `known` are the labels of the base. A failed case does not stop the others."""
    ours = {case_label(selected.case): selected for selected in cases}
    missing = [label for label in known if label not in ours]
    new = [label for label in ours if label not in known]
    prepared, declined = [], []
    for label, selected in ours.items():
        if label in new:
            continue
        first = selected._replace(case=replace(selected.case, seed=0))
        try:
            prepared += run.prepare(sides, [(first, first)], None)
        except Incomparable:
            raise
        except Declined as error:
            declined.append(f"{label}: {error}")
    measured = run.measure(prepared, "gate", base_runs)
    comparisons = [_with_acceptance(one, acceptances) for one in measured.comparisons]
    run.store_again(one for one in comparisons if one.accepted)
    return GateResult(comparisons, missing, new, declined + measured.failed)


def exit_code(found: GateResult, fail_on: Literal["regression", "inconclusive"]) -> int:
    """Return the exit code: first for a regression, then for a missing or failed case, then for an open verdict."""
    if any(one.verdict == "regression" and not one.accepted for one in found.comparisons):
        return REGRESSION
    if found.missing or found.failed or not found.comparisons:
        return FAILED
    undecided = any(one.verdict == "inconclusive" for one in found.comparisons)
    return UNDECIDED if undecided and fail_on == "inconclusive" else FINE


def _with_acceptance(one: Comparison, acceptances: Sequence[Acceptance]) -> Comparison:
    """Mark a regression as accepted, with the reasons, if every worse metric is accepted."""
    if one.verdict != "regression":
        return one
    reasons = [accepted_by(f, one.label, acceptances) for f in one.findings if f.verdict == "regression"]
    return replace(one, accepted="; ".join(reason for reason in reasons if reason)) if all(reasons) else one
