"""Panels of charts: each has rows of one model in one setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from results.report.page_data import ShownCase
from results.report.section import Facets


class Panel(NamedTuple):
    """Cases of one model in one setting, optionally of one backend. `number` counts the panels."""

    number: int
    title: str
    facets: Facets
    cases: tuple[ShownCase, ...]

    @property
    def scenarios(self) -> list[str]:
        """Names in the order of the table."""
        return list(dict.fromkeys(case.scenario for case in self.cases))

    @property
    def backends(self) -> list[str]:
        """Names in the order of the table."""
        return list(dict.fromkeys(case.backend for case in self.cases))


def panels(shown: Sequence[ShownCase], *, by_backend: bool = False) -> list[Panel]:
    """Group cases into panels, in the order of the table."""
    groups: dict[tuple[str, ...], list[ShownCase]] = {}
    for case in shown:
        key: tuple[str, ...] = (case.model, *([case.backend] if by_backend else []), case.setting)
        groups.setdefault(key, []).append(case)
    found = []
    for number, (key, cases) in enumerate(groups.items()):
        facets = {"model": cases[0].model, "setting": cases[0].setting}
        if by_backend:
            facets["backend"] = cases[0].backend
        found.append(Panel(number, " · ".join(part for part in key if part), facets, tuple(cases)))
    return found
