"""Measure the settings that can make a case faster, prune those that cannot win, and prove the fastest equal."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_args

from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.options import words
from benchmarks.choosing.selection import SelectedCase
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.comparison_run import IN_TURNS
from benchmarks.comparing.pairs import Side, failure_of, measure_pair
from benchmarks.preparing.certify import Request, written
from benchmarks.preparing.missing_certificates import make_one, subject_here
from benchmarks.preparing.plan import Preparation, steps_of, without_fixed_part, without_needed
from benchmarks.running.execute import run_side
from benchmarks.tuning.race import Race, Standing
from harness.errors import Declined, Refused
from harness.process.environment import HERE
from harness.process.launch import Event
from harness.process.machine import Machine
from harness.running.record import Record
from harness.spec import SETTINGS, Case, Job, Stage
from results.certificates.certificate import Certificate, read_certificates
from results.certificates.scope import Coverage, coverage_of
from results.storage.rows import Pair, SideName
from results.storage.run_files import RunWriter
from results.storage.windows import compile_s, pays_from, training_seconds
from results.tables.wording import counted
from results.verdicts.pair_findings import log_ratio, median_step_us

SHORT_EPOCHS = 3
"""Epochs of the plain run beside a run from kept features; the other epochs take the same time."""
MEASURING = 0.6
"""The share of the budget for measuring; the rest is for the proof."""


class Acceleration(NamedTuple):
    """Settings that may be faster than the plain ones: the changes, and the case with them."""

    name: str
    changes: dict[str, Any]
    selected: SelectedCase


class ProvedAcceleration(NamedTuple):
    """The fastest settings that are proved equal, and their certificate."""

    settings: Acceleration
    standing: Standing
    certificate: Certificate


class Tuned(NamedTuple):
    """The outcome: standings, the fastest settings that are proved equal, and what was not tried.

    `plain_s` is the training time with the plain settings. `not_tried` and `unproved` have a reason for each setting.
    """

    standings: list[Standing]
    best: ProvedAcceleration | None
    plain_s: float
    pays_from: int | None
    not_tried: dict[str, str]
    unproved: dict[str, str]


def candidates(selected: SelectedCase) -> tuple[list[Acceleration], dict[str, str]]:
    """Return every combination of the exact and rounding settings but the plain one, and what is not tried.

    Candidates with one change are first.
    """
    axes = {
        name: list(get_args(setting.type)) or [False, True]
        for name, setting in SETTINGS.items()
        if setting.provable and setting.type is not int
    }
    found, not_tried = [], {
        f"other {setting.label}": "changes the numbers; `compare` measures its speed and its accuracy over seeds"
        for setting in SETTINGS.values()
        if setting.exactness == "arithmetic"
    }  # fmt: skip
    not_tried["other threads"] = "the number of cores is a choice of the measurement"
    not_tried["other devices"] = "a choice of the measurement too; `scaling` measures it"
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        changes = {name: value for name, value in chosen.items() if getattr(selected.case, name) != value}
        if not changes:
            continue
        case = replace(selected.case, **changes)
        if without_needed(case):
            continue
        if unfit := without_fixed_part(case):
            not_tried[written({name: getattr(case, name) for name in unfit.settings})] = unfit.reason
            continue
        found.append(Acceleration(written(changes), changes, selected._replace(case=case)))
    return sorted(found, key=lambda one: len(one.changes)), not_tried


class Tuning:
    """Tunes one case. `minutes` limit measuring and proof together; every sample is stored.

    Each change is measured alone first. Only changes that are faster alone are combined.
    """

    def __init__(
        self,
        selected: SelectedCase,
        catalogue: Catalogue,
        writer: RunWriter,
        machine: Machine,
        minutes: float,
        on_event: Callable[[Event], None],
        seed: int = 0,
    ) -> None:
        self._catalogue, self._writer, self._machine, self._on_event = catalogue, writer, machine, on_event
        self._started, self._budget_s = time.monotonic(), minutes * 60
        self._preparation = Preparation(catalogue, on_event)
        self._draw = random.Random(seed)
        self._plain = selected
        self._candidates, self._not_tried = candidates(selected)
        self._jobs: dict[str, Job] = {}
        self._plain_s: list[float] = []
        self._pays_from: dict[str, int | None] = {}
        self._number = 0

    def run(self) -> Tuned:
        """Race the candidates, then prove the fastest one; if it is not equal, the next one."""
        plain = self._preparation.plan(self._plain).required_job()
        by_name = self._runnable()
        alone = [name for name, candidate in by_name.items() if len(candidate.changes) == 1]
        race = Race(alone)
        self._started = time.monotonic()  # what is prepared once does not count
        while self._left(MEASURING) > 0:
            if alone and self._measured(race, alone):
                self._combine(race, by_name)
                alone = []
            if (name := race.next()) is None:
                break
            self._on_event({"comparing": f"plain and {name}", "pair": self._number + 1, "pairs": len(by_name) * 20})
            try:
                race.add(name, self._sample(plain, by_name[name]))
            except Declined as reason:
                race.drop(name)
                self._not_tried[name] = str(reason)
        best, unproved = self._proved(race.standings(), by_name, plain)
        return Tuned(
            standings=race.standings(),
            best=best,
            plain_s=median(self._plain_s) if self._plain_s else math.nan,
            pays_from=self._pays_from.get(best.settings.name) if best else None,
            not_tried=self._not_tried,
            unproved=unproved,
        )

    def _measured(self, race: Race, names: Sequence[str]) -> bool:
        """Return whether each of these settings has a sample or cannot run."""
        known = {standing.name for standing in race.standings()} | set(self._not_tried)
        return set(names) <= known

    def _combine(self, race: Race, by_name: dict[str, Acceleration]) -> None:
        """Enter the combinations of changes that are faster alone."""
        faster = {standing.name for standing in race.standings() if standing.value < 0}
        slow: dict[str, None] = {}
        left_out = 0
        for name, candidate in by_name.items():
            if len(candidate.changes) == 1:
                continue
            parts = candidate.changes.items()
            changes = [written({key: value}) for key, value in parts if SETTINGS[key].needs not in candidate.changes]
            if faster.issuperset(changes):
                race.enter(name)
            else:
                slow |= dict.fromkeys(change for change in changes if change not in faster)
                left_out += 1
        if left_out:
            self._not_tried[counted(left_out, "combination")] = (
                f"with settings that are not faster alone: {', '.join(slow)}"
            )

    def _left(self, share: float = 1.0) -> float:
        return self._started + share * self._budget_s - time.monotonic()

    def _runnable(self) -> dict[str, Acceleration]:
        found = {}
        for candidate in self._candidates:
            planned = self._preparation.plan(candidate.selected)
            if planned.job is None:
                self._not_tried[candidate.name] = planned.skip_reason
            else:
                self._jobs[candidate.name] = planned.job
                found[candidate.name] = candidate
        return found

    def _sample(self, plain: Job, candidate: Acceleration) -> float:
        """Return the log of the candidate's training time over the plain one's, from one pair of fresh processes."""
        self._number += 1
        job = self._jobs[candidate.name]
        if job.case.features == "kept":
            return self._of_runs(plain, job, candidate.name)
        mine = theirs = 0.0
        images = self._train_images(plain)
        for number, stage in enumerate(plain.case.scenario.stages):
            order = self._draw.choice(IN_TURNS)
            sides = Side(plain, HERE, number), Side(job, HERE, number)
            a, b = measure_pair(sides, order, Limits().turn_s, self._timeout_s())
            failure = failure_of(a, b)
            name = f"tune {candidate.name}"
            pair = Pair(comparison=name, number=self._number, order=order, a=a, b=b, counts=not failure)
            self._writer.append_pair(pair)
            if failure:
                raise Declined(failure)
            step = median_step_us(a) * stage.batch_size / 1e6
            mine += _stage_s(stage, images, step, a.first_step_s)
            theirs += _stage_s(stage, images, step * math.exp(log_ratio(order, a, b)), b.first_step_s)
        self._plain_s.append(mine)
        return math.log(theirs / mine)

    def _of_runs(self, plain: Job, job: Job, name: str) -> float:
        """Return the same from whole runs: kept features are computed between the epochs, which turns do not time."""
        fresh = replace(job, features_path=None)
        short = replace(plain, case=_shortened(plain.case))
        runs: list[tuple[SideName, Job]] = [("A", short), ("B", fresh)]
        self._draw.shuffle(runs)
        records = {side: self._run(one, name, side) for side, one in runs}
        mine = sum(
            stage.epochs * median(training_seconds(done)) + compile_s(done)
            for stage, done in zip(plain.case.scenario.stages, records["A"].stages, strict=True)
        )
        theirs = sum(sum(training_seconds(done)) + compile_s(done) for done in records["B"].stages)
        self._plain_s.append(mine)
        self._pays_from[name] = next((epoch for done in records["B"].stages if (epoch := pays_from(done))), None)
        return math.log(theirs / mine)

    def _run(self, job: Job, name: str, side: SideName) -> Record:
        facts = self._machine.key, self._timeout_s(), self._on_event
        record = run_side(job, self._writer, f"tune {name}", side, *facts)
        if record.status != "ok":
            raise Declined(f"{record.status}: {record.reason}")
        return record

    def _timeout_s(self) -> float:
        return max(60.0, self._left())

    def _train_images(self, job: Job) -> int:
        meta = self._preparation.dataset(self._plain.case.dataset, job.case.image_size, self._plain.division).meta
        return min(meta.counts["train"], job.case.limit or meta.counts["train"])

    def _proved(
        self, standings: Sequence[Standing], by_name: dict[str, Acceleration], plain: Job
    ) -> tuple[ProvedAcceleration | None, dict[str, str]]:
        """Return the fastest candidate with a certificate, and why faster ones have none."""
        unproved: dict[str, str] = {}
        for standing in standings:
            if (standing.dropped and standing.value > 0) or standing.high >= 0:
                continue  # not faster than the plain settings
            candidate = by_name[standing.name]
            certificate, reason = self._certificate(candidate, plain)
            if certificate:
                return ProvedAcceleration(candidate, standing, certificate), unproved
            unproved[standing.name] = reason
        return None, unproved

    def _certificate(self, candidate: Acceleration, plain: Job) -> tuple[Certificate | None, str]:
        results, case = self._writer.results_dir, self._jobs[candidate.name].case
        known = self._coverage(results, plain.case, case)
        if known.certificate or known.fell_short:
            return known.certificate, known.reason
        if self._left() < 0:
            return None, "no time was left for the proof"
        start = case.scenario.start == "checkpoint"
        request = Request(([self._plain], [candidate.selected]), (case.image_size,), start, priced=False)
        try:
            make_one(request, self._catalogue, results, self._on_event)
        except (Declined, Refused) as reason:
            return None, str(reason)
        known = self._coverage(results, plain.case, case)
        return known.certificate, known.reason

    def _coverage(self, results: Path, plain: Case, fast: Case) -> Coverage:
        ours, theirs = (subject_here(case, self._catalogue, self._machine) for case in (plain, fast))
        return coverage_of(ours, theirs, read_certificates(results).all)


def _shortened(case: Case) -> Case:
    stages = tuple(replace(stage, epochs=min(stage.epochs, SHORT_EPOCHS)) for stage in case.scenario.stages)
    return replace(case, scenario=replace(case.scenario, stages=stages))


def _stage_s(stage: Stage, images: int, step_s: float, first_s: float) -> float:
    """Return the training seconds of a stage, with compiling: what the first step takes beyond a usual one."""
    return steps_of(stage, images) * step_s + max(0.0, first_s - step_s)


def lines(tuned: Tuned, command: str) -> Iterator[str]:
    """Yield the answer first, then the evidence and what was not tried."""
    if tuned.best is None:
        why = "" if tuned.standings else ": the time limit ended before a setting was measured"
        yield f"Nothing is faster than the plain settings and proved equal to them{why}."
    else:
        settings, standing, certificate = tuned.best
        value, low, high = standing.speed_up
        level = certificate.level(settings.selected.case.scenario.name)
        yield (
            f"{settings.name} trains × {value:.2f} faster (95 % interval {low:.2f}–{high:.2f}) than the plain "
            f"settings, and provably the same (certificate {certificate.sha256[:8]}, P{level})."
        )
        yield f"  Training takes {tuned.plain_s / value:.1f} s instead of {tuned.plain_s:.1f} s, compiling included."
        if tuned.pays_from:
            yield f"  It saves time from epoch {tuned.pays_from}."
        yield f"  {command} {options(settings)}"
    yield ""
    for one in tuned.standings:
        value, low, high = one.speed_up
        state = "" if not one.dropped else ", cannot win"
        proof = f", not proved equal: {tuned.unproved[one.name]}" if one.name in tuned.unproved else ""
        yield f"  {one.name}: × {value:.2f} ({low:.2f}–{high:.2f}), {counted(one.samples, 'pair')}{state}{proof}"
    for name, reason in tuned.not_tried.items():
        yield f"  not tried: {name} – {reason}"


def options(candidate: Acceleration) -> str:
    """Return the options of `run` for the changes of a candidate."""
    return " ".join(word for name, value in candidate.changes.items() for word in words(name, value))
