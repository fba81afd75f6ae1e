"""Which cases a suite has, by label; asked of a checkout of another revision, in a worker of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.catalogue import Catalogue, read_catalogue
from benchmarks.names import unknown
from benchmarks.selection import Draft, Selection, expand, read_suite
from benchmarks.suites import SUITES
from harness.errors import Refused
from harness.spec import Case


def suite_cases(suite: str) -> list[str]:
    """Labels of a suite's cases in this checkout: a suite's name, or a TOML file."""
    selections, catalogue = find_suite(suite)
    return [case_label(draft.case) for draft in suite_drafts(selections, catalogue)]


def find_suite(suite: str) -> tuple[tuple[Selection, ...], Catalogue]:
    """Its selections, and what there is to choose from. Raises `Refused` with the nearest names."""
    if suite in SUITES:
        return SUITES[suite].selections, read_catalogue()
    if not Path(suite).is_file():
        raise Refused(unknown("suite", suite, SUITES))
    selections, scenarios = read_suite(Path(suite))
    return tuple(selections), read_catalogue((), scenarios)


def suite_drafts(selections: Sequence[Selection], catalogue: Catalogue) -> list[Draft]:
    """The cases, each once however many seeds it has."""
    drafts = [draft for selection in selections for draft in expand(selection, catalogue)]
    return list({case_label(draft.case): draft for draft in drafts}.values())


def case_label(case: Case) -> str:
    """A case's name without its seed, as `gate` tells whether it is still there."""
    return f"{case.backend_name}/{case.model}/{case.scenario.name}"
