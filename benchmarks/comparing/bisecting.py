"""The candidates of a search in order, and the ratio of each to the first; each pair is measured once and stored."""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.comparing.comparison_run import IN_TURNS, ComparisonRun
from benchmarks.comparing.prepare import PreparedComparison
from benchmarks.comparing.repository import revisions_between
from benchmarks.comparing.sides import SideSpec, expand_sides, setting
from harness.errors import Declined, Refused
from harness.spec import key
from results.storage.rows import Pair
from results.verdicts.pair_findings import log_ratio
from results.verdicts.stored_comparisons import read_comparisons


class Candidate(NamedTuple):
    """A revision, interpreter or value of a setting that may be the first bad one, by name and as side B."""

    name: str
    spec: SideSpec


def revisions(good: str, bad: str) -> list[Candidate]:
    """The good revision and every one after it up to the bad one, first parents only. Raises `Refused`."""
    return [
        Candidate(commit[:10], SideSpec("B", f"rev:{commit[:10]}", {}, revision=commit))
        for commit in revisions_between(good, bad)
    ]


def interpreters(paths: Sequence[str]) -> list[Candidate]:
    """Interpreters in the order given."""
    return [Candidate(path, SideSpec("B", path, {}, python=path)) for path in paths]


def settings(text: str) -> list[Candidate]:
    """Values of one setting in the order given, from `threads=1,2,4`. Raises `Refused`."""
    field, equals, values = text.partition("=")
    if not equals:
        raise Refused(f"--set {text}: no values; write threads=1,2,4")
    return [
        Candidate(f"{field}={value}", SideSpec("B", f"{field}={value}", setting(field.replace("-", "_"), value)))
        for value in values.split(",")
    ]


class CandidateRatios:
    """Measures log-ratios of a candidate to the first one. Pairs that an earlier search stored are taken first."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        common: Mapping[str, Any],
        catalogue: Catalogue,
        run: ComparisonRun,
        results: Path,
        say: Callable[[str], None],
        delays: Mapping[int, float],
    ) -> None:
        self._candidates, self._common, self._catalogue = candidates, common, catalogue
        self._run, self._say, self._delays = run, say, delays
        self._stored: dict[str, list[Pair]] = defaultdict(list)
        for one in read_comparisons(results):
            self._stored[one.name] += [pair for pair in one.pairs if pair.counts]
        self._prepared: dict[int, PreparedComparison | None] = {}
        self._taken: dict[int, int] = defaultdict(int)
        self.measured = 0

    def measure(self, index: int) -> float | None:
        """One more log-ratio of a candidate; None, once and for all, if it cannot be built or run here."""
        if index not in self._prepared:
            self._prepared[index] = self._prepare(index)
        prepared = self._prepared[index]
        if prepared is None:
            return None
        name, number = _identity(prepared), self._taken[index]
        self._taken[index] += 1
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
        self._say(f"{self._candidates[index].name}: {100 * math.expm1(value):+.1f} % of cost")
        return value

    def _prepare(self, index: int) -> PreparedComparison | None:
        good, other = (self._candidates[n].spec for n in (0, index))
        specs = good._replace(name="A"), other._replace(delay=self._delays.get(index, 0.0))
        try:
            cases = expand_sides(specs, self._common, self._catalogue)
            if len(cases) != 1:
                raise Refused(f"a search is for one case, not for {len(cases)}; name one --model and one --scenario")
            (prepared,) = self._run.prepare(specs, cases, None)
        except Declined as error:
            self._leave_out(index, error)
            return None
        return prepared

    def _leave_out(self, index: int, error: Declined) -> None:
        self._say(f"{self._candidates[index].name}: left out – {error}")
        self._prepared[index] = None


def _identity(prepared: PreparedComparison) -> str:
    """Equal for equal measurements: cases, revisions, what is installed, what is injected."""
    sides = [
        [facts.revision, facts.packages, facts.injected, key(side.job.case)]
        for facts, side in zip(prepared.facts, prepared.sides, strict=True)
    ]
    return "bisect-" + hashlib.sha256(msgspec.json.encode(sides)).hexdigest()[:16]
