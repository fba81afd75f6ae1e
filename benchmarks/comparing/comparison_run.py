"""Measure comparisons: pairs until a verdict is clear, memory, accuracy over seeds, and one re-run to confirm."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from ulid import ULID

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.configuration import command_line
from benchmarks.comparing.base_runs import BaseRuns
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.pairs import failure_of, measure_pair
from benchmarks.comparing.prepare import ComparisonPreparation, PreparedComparison
from benchmarks.comparing.seeds import SeedRuns
from benchmarks.comparing.sides import NAMES, SideCases, SideSpec
from benchmarks.running.execute import run_side
from benchmarks.running.progress import RunProgress
from harness.errors import Declined
from harness.process.machine import describe_machine, environment
from harness.running.record import Record
from harness.running.sensors import disturbed
from harness.spec import Job
from results.certificates.certificate import read_certificates
from results.storage.comparison import LOOKS, Comparison, Finding, Purpose
from results.storage.rows import Order, Pair, Shard, SideName
from results.storage.run_files import RunWriter, open_run
from results.verdicts.conclusion import adjusted, conclude
from results.verdicts.pair_findings import memory_findings, throughput_finding

IN_TURNS: tuple[Order, Order] = ("ABBA", "BAAB")
ALTERNATING: tuple[Order, Order] = ("AB", "BA")
REPEATS = LOOKS[-1] // 2
"""The number of disturbed pairs that are measured again; later ones count although they are disturbed."""


class OutOfMemory(Declined):
    """A side ran out of memory."""


class ComparisonResults(NamedTuple):
    """Comparisons in the order given, and a sentence about each case that could not be measured."""

    comparisons: list[Comparison]
    failed: list[str]


class ComparisonRun:
    """Prepares comparisons and measures them one after the other; stores each pair before the next one starts."""

    def __init__(
        self,
        preparation: ComparisonPreparation,
        writer: RunWriter,
        limits: Limits,
        order_seed: int,
        progress: RunProgress,
        machine: str,
        planned: int = 0,
    ) -> None:
        self._planned = planned
        self.preparation, self._writer, self._limits = preparation, writer, limits
        self.order_seed, self.progress, self._machine = order_seed, progress, machine
        self._started = time.monotonic()
        self._pair_s = 0.0
        self._alternate = limits.alternate

    @property
    def path(self) -> Path:
        """The file of the run."""
        return self._writer.path

    def prepare(
        self, specs: tuple[SideSpec, SideSpec], cases: Sequence[SideCases], stage: int | None
    ) -> list[PreparedComparison]:
        """Prepare every case before anything is measured; raises as `ComparisonPreparation.prepare` does."""
        return [self.preparation.prepare(specs, case, stage) for case in cases]

    def measure(
        self, prepared: Sequence[PreparedComparison], purpose: Purpose, base_runs: BaseRuns | None = None
    ) -> ComparisonResults:
        """Measure all and adjust p over all; a case that cannot be measured does not stop the others.

        Complete runs of side A are taken from `base_runs` and kept there.
        """
        self.progress.expect(len(prepared))
        comparisons, failed = [], []
        for one in prepared:
            try:
                comparisons.append(self._measure_one(one, purpose, base_runs))
            except Declined as error:
                failed.append(str(error))
        several = max(len(comparisons), self._planned) > 1
        together = adjusted(comparisons, self._planned) if several else comparisons
        self.store_again(one for one, before in zip(together, comparisons, strict=True) if one != before)
        return ComparisonResults(together, failed)

    def store_again(self, comparisons: Iterable[Comparison]) -> None:
        """Store changed comparisons again; the last row of a comparison counts."""
        for one in comparisons:
            self._writer.append_verdict(one)

    def _measure_one(self, prepared: PreparedComparison, purpose: Purpose, base_runs: BaseRuns | None) -> Comparison:
        started, name = time.monotonic(), str(ULID())
        findings, repeated = self._findings(prepared, name, base_runs)
        confirmation: list[Finding] = []
        regressions = tuple(finding.metric for finding in findings if finding.verdict == "regression")
        if regressions and self._limits.confirm:
            confirmation, more = self._findings(prepared, name, base_runs, confirms=regressions)
            repeated += more
        found = Comparison(
            name=name,
            purpose=purpose,
            label=prepared.label,
            sides=prepared.facts,
            differs=prepared.differs,
            findings=tuple(findings),
            confirmation=tuple(confirmation),
            verdict="inconclusive",
            order_seed=self.order_seed,
            repeated_pairs=repeated,
            seconds=round(time.monotonic() - started, 1),
        )
        found = conclude(found, confirmed=self._limits.confirm)
        self._writer.append_verdict(found)
        return found

    def _findings(
        self, prepared: PreparedComparison, name: str, base_runs: BaseRuns | None, *, confirms: tuple[str, ...] = ()
    ) -> tuple[list[Finding], int]:
        """Measure the metrics to confirm, or all; return the findings and the number of pairs measured again."""
        findings: list[Finding] = []
        repeated = 0
        if not confirms or any(metric != "accuracy" for metric in confirms):
            measured = list(self._pairs(prepared, name, confirms=bool(confirms)))
            pairs = [pair for pair in measured if pair.counts]
            repeated = len(measured) - len(pairs)
            findings += [throughput_finding(pairs, self._limits.margin), *memory_findings(pairs)]
        if self._limits.seeds and (not confirms or "accuracy" in confirms):
            facts = self._machine, self._limits.timeout_s, self.progress.on_event
            first = self._limits.seeds if confirms else 0
            seeds = range(first, first + self._limits.seeds)
            findings += SeedRuns(prepared, self._writer, name, *facts, base_runs).finding(seeds, self._left)
        return [finding for finding in findings if not confirms or finding.metric in confirms], repeated

    def _pairs(self, prepared: PreparedComparison, name: str, *, confirms: bool) -> Iterator[Pair]:
        """Measure and store pairs until the verdict is clear, the last look is done, or the budget is used up."""
        draw = random.Random(f"{self.order_seed} {prepared.label} {confirms}")
        kept: list[Pair] = []
        number = repeated = 0
        while len(kept) < self._limits.pairs and self._left() > self._pair_s:
            number += 1
            self.progress.on_event({"comparing": prepared.label, "pair": len(kept) + 1, "pairs": self._limits.pairs})
            order = draw.choice(ALTERNATING if self._alternate else IN_TURNS)
            try:
                pair = self.pair(prepared, name, number, order, confirms=confirms, repeat=repeated < REPEATS)
            except OutOfMemory:
                if self._alternate:
                    raise
                self._alternate = True  # memory is too small for both: from now on one ends before the other starts
                continue
            repeated += not pair.counts
            yield pair
            if pair.counts:
                kept.append(pair)
            if pair.counts and len(kept) in LOOKS and not self._limits.every_pair and self._decided(kept):
                return

    def pair(
        self,
        prepared: PreparedComparison,
        name: str,
        number: int,
        order: Order,
        *,
        confirms: bool = False,
        repeat: bool = False,
    ) -> Pair:
        """Measure one pair and store it; with `repeat`, a disturbed pair does not count. Raises `Declined`."""
        began = time.monotonic()
        a, b = measure_pair(prepared.sides, order, self._limits.turn_s, self._limits.timeout_s)
        self._pair_s = time.monotonic() - began
        failure = failure_of(a, b)
        threads = prepared.sides[0].job.case.threads
        disturbances = tuple(
            f"side {side}: {sentence}"
            for side, record in (("A", a), ("B", b))
            if record.sensors is not None
            for sentence in disturbed(record.sensors, threads)
        )
        facts = {"counts": not failure and not (disturbances and repeat), "confirms": confirms}
        pair = Pair(comparison=name, number=number, order=order, a=a, b=b, disturbed=disturbances, **facts)
        self._writer.append_pair(pair)
        if failure:
            kind = OutOfMemory if "oom" in (a.status, b.status) else Declined
            raise kind(f"{prepared.label}: {failure}")
        return pair

    def runs(
        self, prepared: PreparedComparison, jobs: tuple[Job, Job], name: str, *, b_first: bool
    ) -> tuple[Record, Record]:
        """Run both jobs to their ends, one after the other, and store both records. Raises `Declined`."""
        records: dict[SideName, Record] = {}
        for side, job in sorted(zip(NAMES, jobs, strict=True), reverse=b_first):
            place = prepared.sides[NAMES.index(side)].place
            facts = self._machine, self._limits.timeout_s, self.progress.on_event
            records[side] = record = run_side(job, self._writer, name, side, *facts, place)
            if record.status != "ok":
                raise Declined(f"{prepared.label}, side {side}: {record.status} – {record.reason}")
        return records["A"], records["B"]

    def _decided(self, pairs: list[Pair]) -> bool:
        return throughput_finding(pairs, self._limits.margin).verdict != "inconclusive"

    def _left(self) -> float:
        """Return the seconds of the budget that are left."""
        if self._limits.budget_s is None:
            return float("inf")
        return self._started + self._limits.budget_s - time.monotonic()


@contextmanager
def open_comparison_run(
    results: Path,
    limits: Limits,
    catalogue: Catalogue,
    *,
    order_seed: int | None,
    quiet: bool = False,
    shard: Shard | None = None,
) -> Iterator[ComparisonRun]:
    """Open a run's file for comparisons, or for those of one shard.

    After an interrupt the stored pairs remain, and the run is unfinished.
    """
    machine = describe_machine()
    seed = secrets.randbelow(2**31) if order_seed is None else order_seed
    with (
        RunProgress(Console(stderr=True), quiet=quiet) as progress,
        open_run(
            results, command=command_line(), planned=(), machine=machine, environment=environment(), shard=shard
        ) as writer,
    ):
        preparation = ComparisonPreparation(catalogue, read_certificates(results), progress.on_event)
        with finished(writer):
            planned = sum(map(len, shard.labels)) if shard else 0
            yield ComparisonRun(preparation, writer, limits, seed, progress, machine.key, planned)


@contextmanager
def finished(writer: RunWriter, what: str = "pairs") -> Iterator[None]:
    """Write the end of a run of pairs, or of `what`, when the block ends: done, interrupted or failed."""
    try:
        yield
    except KeyboardInterrupt:
        writer.finish("interrupted")
        click.echo(f"finished {what} are stored in {writer.path}", err=True)
        raise
    except BaseException:
        writer.finish("failed")
        raise
    writer.finish()
