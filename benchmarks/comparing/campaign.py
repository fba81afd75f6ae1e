"""Answer questions: pairs until a look decides, memory beside them, accuracy over seeds, and one re-run to confirm."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from ulid import ULID

from benchmarks.comparing.budget import Limits
from benchmarks.comparing.pairs import measure_pair, trouble
from benchmarks.comparing.question import Question
from benchmarks.comparing.seeds import Seeds
from harness.errors import Declined
from harness.process.launch import Event
from harness.running.disturbance import disturbed
from results.storage.comparison import LOOKS, Comparison, Finding, Purpose
from results.storage.rows import Order, Pair
from results.storage.run_files import RunWriter
from results.verdicts.conclusion import conclude
from results.verdicts.pair_findings import of_memory, of_time

IN_TURNS: tuple[Order, Order] = ("ABBA", "BAAB")
ALTERNATING: tuple[Order, Order] = ("AB", "BA")
REPEATS = LOOKS[-1] // 2
"""How many disturbed pairs are measured again; later ones count as they are."""


class NoRoom(Declined):
    """A side ran out of memory."""


class Campaign:
    """Measures questions one after the other and stores each pair before the next begins."""

    def __init__(
        self, writer: RunWriter, limits: Limits, order_seed: int, on_event: Callable[[Event], None], machine: str
    ) -> None:
        self._writer, self._limits, self._order_seed, self._on_event = writer, limits, order_seed, on_event
        self._started, self._machine = time.monotonic(), machine
        self._pair_s = 0.0
        self._alternate = limits.alternate

    def answer(self, question: Question, purpose: Purpose = "compare") -> Comparison:
        """The comparison of one question, stored. Raises `Declined` if a side cannot be measured."""
        started, name = time.monotonic(), str(ULID())
        findings, repeated = self._findings(question, name, confirms=False, metrics=())
        confirmation: list[Finding] = []
        regressions = tuple(finding.metric for finding in findings if finding.verdict == "regression")
        if regressions and self._limits.confirm:
            confirmation, more = self._findings(question, name, confirms=True, metrics=regressions)
            repeated += more
        found = Comparison(
            comparison=name,
            purpose=purpose,
            label=question.label,
            arms=question.arms,
            differs=question.differs,
            findings=tuple(findings),
            confirmation=tuple(confirmation),
            verdict="inconclusive",
            order_seed=self._order_seed,
            repeated_pairs=repeated,
            seconds=round(time.monotonic() - started, 1),
        )
        found = conclude(found, confirmed=self._limits.confirm)
        self._writer.append_verdict(found)
        return found

    def store_again(self, comparison: Comparison) -> None:
        """Store a comparison to which something was added; of several rows of one, the last holds."""
        self._writer.append_verdict(comparison)

    def _findings(
        self, question: Question, name: str, *, confirms: bool, metrics: tuple[str, ...]
    ) -> tuple[list[Finding], int]:
        """Findings of the metrics named, or of all; and how many pairs were measured again."""
        findings: list[Finding] = []
        pairs: list[Pair] = []
        repeated = 0
        if not metrics or any(metric != "accuracy" for metric in metrics):
            for pair in self._pairs(question, name, confirms=confirms):
                repeated += not pair.counts
                if pair.counts:
                    pairs.append(pair)
            findings += [of_time(pairs, self._limits.margin), *of_memory(pairs)]
        if self._limits.seeds and (not metrics or "accuracy" in metrics):
            seeds = Seeds(question, self._writer, name, self._machine, self._limits.timeout_s, self._on_event)
            first = self._limits.seeds if confirms else 0
            findings += seeds.finding(range(first, first + self._limits.seeds), self._left)
        return [finding for finding in findings if not metrics or finding.metric in metrics], repeated

    def _pairs(self, question: Question, name: str, *, confirms: bool) -> Iterator[Pair]:
        """Measured pairs, stored, until a look decides, the last look is over, or the budget is spent."""
        draw = random.Random(f"{self._order_seed} {question.label} {confirms}")
        kept: list[Pair] = []
        number = repeated = 0
        while len(kept) < self._limits.pairs and self._left() > self._pair_s:
            number += 1
            self._on_event({"comparing": question.label, "pair": len(kept) + 1, "pairs": self._limits.pairs})
            order = draw.choice(ALTERNATING if self._alternate else IN_TURNS)
            try:
                pair = self.pair(question, name, number, order, confirms=confirms, repeat=repeated < REPEATS)
            except NoRoom:
                if self._alternate:
                    raise
                self._alternate = True  # both do not fit in memory: from now on one ends before the other begins
                continue
            repeated += not pair.counts
            yield pair
            if pair.counts:
                kept.append(pair)
            if pair.counts and len(kept) in LOOKS and not self._limits.every_pair and self._decided(kept):
                return

    def pair(
        self, question: Question, name: str, number: int, order: Order, *, confirms: bool = False, repeat: bool = False
    ) -> Pair:
        """Measure one pair and store it; with `repeat`, a disturbed one does not count. Raises `Declined`."""
        began = time.monotonic()
        a, b = measure_pair(question.sides, order, self._limits.turn_s, self._limits.timeout_s)
        self._pair_s = time.monotonic() - began
        failure = trouble(a, b)
        threads = question.sides[0].job.case.threads
        said = tuple(
            f"arm {arm}: {sentence}"
            for arm, side in (("A", a), ("B", b))
            if side.sensors is not None
            for sentence in disturbed(side.sensors, threads)
        )
        counts = not failure and not (said and repeat)
        pair = Pair(
            comparison=name, number=number, order=order, a=a, b=b, disturbed=said, counts=counts, confirms=confirms
        )
        self._writer.append_pair(pair)
        if failure:
            kind = NoRoom if "oom" in (a.status, b.status) else Declined
            raise kind(f"{question.label}: {failure}")
        return pair

    def _decided(self, pairs: list[Pair]) -> bool:
        return of_time(pairs, self._limits.margin).verdict != "inconclusive"

    def _left(self) -> float:
        """Seconds of the budget that are left."""
        if self._limits.budget_s is None:
            return float("inf")
        return self._started + self._limits.budget_s - time.monotonic()
