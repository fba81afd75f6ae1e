"""The candidates of a search, and the measured ratio of each to the first candidate."""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.comparing.comparison_run import IN_TURNS, ComparisonRun
from benchmarks.comparing.prepare import PreparedComparison
from benchmarks.comparing.repository import revisions_between
from benchmarks.comparing.sides import SideSpec, expand_sides, read_setting, read_side
from harness.errors import Declined, Refused
from harness.spec import key
from results.storage.rows import Pair, SideName
from results.verdicts.pair_findings import log_ratio
from results.verdicts.stored_comparisons import read_comparisons

T = TypeVar("T")


class Candidate(NamedTuple):
    """A revision, interpreter or value of a setting that may be the first slower one, as side B."""

    name: str
    spec: SideSpec


def revisions(good: str, bad: str) -> list[Candidate]:
    """Return the revisions from the good one to the bad one, along first parents. Raises `Refused`."""
    commits = revisions_between(good, bad)
    return [Candidate(one[:10], SideSpec("B", f"rev:{one[:10]}", {}, revision=one)) for one in commits]


def interpreters(texts: Sequence[str]) -> list[Candidate]:
    """Return the interpreter of side A, then those of B in the order given. Raises `Refused`."""
    sides = _good_first([read_side(text, "--python") for text in texts], "--python A=v1/bin/python")
    return [Candidate(path, SideSpec("B", path, {}, python=path)) for path in sides]


def settings(texts: Sequence[str]) -> list[Candidate]:
    """Return the setting of side A, then its values on side B in the order given. Raises `Refused`."""
    read = [(*read_setting(text), text.partition(".")[2]) for text in texts]
    fields = [field for _, values, _ in read for field in values]
    if len({*fields}) > 1:
        raise Refused(f"--set: vary one setting at a time, not {' and '.join(dict.fromkeys(fields))}")
    sides = _good_first([(side, (values, name)) for side, values, name in read], "--set A.threads=1")
    return [Candidate(name, SideSpec("B", name, values)) for values, name in sides]


def _good_first(found: Sequence[tuple[SideName, T]], example: str) -> list[T]:
    good = [one for side, one in found if side == "A"]
    if len(good) != 1:
        raise Refused(f"{len(good)} good candidates; give one as side A, such as {example}, and the others as side B")
    return good + [one for side, one in found if side == "B"]


class CandidateRatios:
    """Measures log-ratios of a candidate to the first one. Pairs stored by an earlier search are used first."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        common: Mapping[str, Any],
        catalogue: Catalogue,
        run: ComparisonRun,
        results: Path,
        report: Callable[[str], None],
        delays: Mapping[int, float],
    ) -> None:
        self._candidates, self._common, self._catalogue = candidates, common, catalogue
        self._run, self._report, self._delays = run, report, delays
        self._stored: dict[str, list[Pair]] = defaultdict(list)
        for one in read_comparisons(results):
            self._stored[one.name] += [pair for pair in one.pairs if pair.counts]
        self._prepared: dict[int, PreparedComparison | None] = {}
        self._used: dict[int, int] = defaultdict(int)
        self.measured = 0

    def measure(self, index: int) -> float | None:
        """Return one more log-ratio of a candidate; None if it cannot be built or run, now and in later calls."""
        if index not in self._prepared:
            self._prepared[index] = self._prepare(index)
        prepared = self._prepared[index]
        if prepared is None:
            return None
        name, number = _identity(prepared), self._used[index]
        self._used[index] += 1
        if number < len(self._stored[name]):
            pair = self._stored[name][number]
        else:
            order = IN_TURNS[random.Random(f"{name} {number}").randrange(2)]
            try:
                pair = self._run.pair(prepared, name, number + 1, order)
            except Declined as error:
                self._leave_out(index, error)
                return None
            self.measured += 1
        value = log_ratio(pair.order, pair.a, pair.b)
        self._report(f"{self._candidates[index].name}: {100 * math.expm1(value):+.1f} % of cost")
        return value

    def _prepare(self, index: int) -> PreparedComparison | None:
        good, other = (self._candidates[n].spec for n in (0, index))
        specs = good._replace(name="A"), other._replace(delay=self._delays.get(index, 0.0))
        try:
            cases = expand_sides(specs, self._common, self._catalogue)
            if len(cases) != 1:
                raise Refused(f"a search needs one case, not {len(cases)}; give one --model and one --scenario")
            (prepared,) = self._run.prepare(specs, cases, None)
        except Declined as error:
            self._leave_out(index, error)
            return None
        return prepared

    def _leave_out(self, index: int, error: Declined) -> None:
        self._report(f"{self._candidates[index].name}: left out – {error}")
        self._prepared[index] = None


def _identity(prepared: PreparedComparison) -> str:
    """Return a name that is equal for equal cases, revisions, packages and injected delays."""
    sides = [
        [facts.revision, facts.packages, facts.injected, key(side.job.case)]
        for facts, side in zip(prepared.facts, prepared.sides, strict=True)
    ]
    return "bisect-" + hashlib.sha256(msgspec.json.encode(sides)).hexdigest()[:16]
