"""Candidates in order, and one measurement of one of them against the first; measured once, kept for the next time."""

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
from benchmarks.comparing.arms import ArmSpec, drafts, setting
from benchmarks.comparing.campaign import IN_TURNS
from benchmarks.comparing.question import Question
from benchmarks.comparing.repository import revisions_between
from benchmarks.comparing.session import Sitting
from harness.errors import Declined, Refused
from harness.spec import key
from results.storage.rows import Pair
from results.verdicts.pair_findings import log_ratio
from results.verdicts.stored_comparisons import comparisons


class Candidate(NamedTuple):
    """One of the candidates: what it is called, and the arm that it is."""

    name: str
    spec: ArmSpec


def revisions(good: str, bad: str) -> list[Candidate]:
    """The good revision and every one after it up to the bad one, first parents only. Raises `Refused`."""
    return [
        Candidate(commit[:10], ArmSpec("B", f"rev:{commit[:10]}", {}, revision=commit))
        for commit in revisions_between(good, bad)
    ]


def interpreters(paths: Sequence[str]) -> list[Candidate]:
    """Interpreters in the order given."""
    return [Candidate(path, ArmSpec("B", path, {}, python=path)) for path in paths]


def settings(text: str) -> list[Candidate]:
    """Values of one setting in the order given, from `threads=1,2,4`. Raises `Refused`."""
    field, equals, values = text.partition("=")
    if not equals:
        raise Refused(f"--set {text}: no values; write threads=1,2,4")
    return [
        Candidate(f"{field}={value}", ArmSpec("B", f"{field}={value}", setting(field.replace("-", "_"), value)))
        for value in values.split(",")
    ]


class Measurements:
    """Pairs of the first candidate and another one. Those that an earlier search stored are taken first."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        common: Mapping[str, Any],
        catalogue: Catalogue,
        sitting: Sitting,
        results: Path,
        say: Callable[[str], None],
        delays: Mapping[int, float],
    ) -> None:
        self._candidates, self._common, self._catalogue = candidates, common, catalogue
        self._sitting, self._say, self._delays = sitting, say, delays
        self._stored: dict[str, list[Pair]] = defaultdict(list)
        for one in comparisons(results):
            self._stored[one.comparison] += [pair for pair in one.pairs if pair.counts]
        self._questions: dict[int, Question | None] = {}
        self._taken: dict[int, int] = defaultdict(int)
        self.measured = 0

    def measure(self, place: int) -> float | None:
        """One more log-ratio of a candidate; None, once and for all, if it cannot be built or run here."""
        if place not in self._questions:
            self._questions[place] = self._ask(place)
        question = self._questions[place]
        if question is None:
            return None
        name, number = _identity(question), self._taken[place]
        self._taken[place] += 1
        if number < len(self._stored[name]):
            pair = self._stored[name][number]
        else:
            order = IN_TURNS[random.Random(f"{name} {number}").randrange(2)]
            try:
                pair = self._sitting.pair(question, name, number + 1, order)
            except Declined as error:
                self._leave_out(place, error)
                return None
            self.measured += 1
        value = log_ratio(pair.order, pair.a, pair.b)
        self._say(f"{self._candidates[place].name}: {100 * math.expm1(value):+.1f} % of cost")
        return value

    def _ask(self, place: int) -> Question | None:
        good, other = (self._candidates[n].spec for n in (0, place))
        specs = good._replace(name="A"), other._replace(delay=self._delays.get(place, 0.0))
        try:
            cases = drafts(specs, self._common, self._catalogue)
            if len(cases) != 1:
                raise Refused(f"a search is for one case, not for {len(cases)}; name one --model and one --scenario")
            (question,) = self._sitting.questions(specs, cases, None)
        except Declined as error:
            self._leave_out(place, error)
            return None
        return question

    def _leave_out(self, place: int, error: Declined) -> None:
        self._say(f"{self._candidates[place].name}: left out – {error}")
        self._questions[place] = None


def _identity(question: Question) -> str:
    """Equal for equal measurements: cases, revisions, what is installed, what is injected."""
    arms = [
        [arm.revision, arm.packages, arm.injected, key(side.job.case)]
        for arm, side in zip(question.arms, question.sides, strict=True)
    ]
    return "bisect-" + hashlib.sha256(msgspec.json.encode(arms)).hexdigest()[:16]
