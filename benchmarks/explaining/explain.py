"""Measure the factors between two sides, switched one at a time in several orders, by pairs of live processes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.comparing.comparison_run import IN_TURNS, ComparisonRun
from benchmarks.comparing.prepare import PreparedComparison
from benchmarks.comparing.sides import SideSpec
from benchmarks.explaining.factors import FactorSet, Switched
from benchmarks.preparing.missing_certificates import subject_here
from harness.errors import Declined
from harness.process.machine import describe_machine
from harness.spec import SETTINGS, Case
from results.certificates.certificate import read_certificates
from results.certificates.scope import coverage_of
from results.explanations.explanation import Explanation, SameWork
from results.explanations.shares import Order, Walk, orders, shares
from results.verdicts.pair_findings import log_ratio

LEAST_BLOCKS = 2
"""The smallest number of orders with their reverses: the noise of a pair needs a repetition."""
AGAIN = 3
"""The number of disturbed pairs that are measured again; a machine that is always disturbed has no better ones."""
SAME_NUMBERS = ("threads", "workers", "warmup_steps")
"""Settings outside a certificate that change no number of the training."""
Measure = Callable[[Switched, Switched], float]
"""Returns the log speed-up of the second combination over the first, from one new pair of processes."""


class Limit(NamedTuple):
    """When to stop: after these seconds, or after a number of orders. `seed` draws the orders.

    The first four orders are always measured.
    """

    seconds: float
    orders: int | None = None
    seed: int = 0

    def allows(self, blocks: int, spent_s: float, block_s: float) -> bool:
        """Return whether another block of two orders may begin."""
        if self.orders is not None:
            return blocks < max(LEAST_BLOCKS, -(-self.orders // 2))
        return blocks < LEAST_BLOCKS or spent_s + block_s <= self.seconds


def measured(factors: int, measure: Measure, limit: Limit) -> list[tuple[Walk, Walk]]:
    """Measure blocks, each an order and its reverse, until the limit. Raises as `measure` does."""
    started, blocks, block_s = time.monotonic(), list[tuple[Walk, Walk]](), 0.0
    for order, back in orders(factors, limit.seed):
        spent_s = time.monotonic() - started
        if not limit.allows(len(blocks), spent_s, block_s):
            break
        blocks.append((_walk(order, measure), _walk(back, measure)))
        block_s = time.monotonic() - started - spent_s
    return blocks


def _walk(order: Order, measure: Measure) -> Walk:
    none, every = frozenset[int](), frozenset(order)
    direct = measure(none, every)
    switched, done = [0.0] * len(order), none
    for factor in order:
        switched[factor] = measure(done, done | {factor})
        done |= {factor}
    return Walk(order=order, switched=tuple(switched), direct=direct)


class Pairs:
    """Measures pairs of combinations: turns of steps, or whole runs if the factors say so.

    Each pair is stored below the names of its two combinations.
    """

    def __init__(self, factors: FactorSet, run: ComparisonRun, stage: int | None) -> None:
        self._factors, self._run, self._stage = factors, run, stage
        self._draw = random.Random(run.order_seed)
        self._prepared: dict[tuple[Switched, Switched], PreparedComparison] = {}
        self._repeated = 0
        self.number = 0

    def measure(self, before: Switched, after: Switched) -> float:
        """Return the log speed-up of `after` over `before`, from a new pair. Raises `Declined`.

        The first `AGAIN` disturbed pairs are measured again.
        """
        prepared = self.prepared(before, after)
        name = f"explain {prepared.label}: {self._factors.name(before)} | {self._factors.name(after)}"
        while True:
            self.number += 1
            self._run.progress.on_event({"comparing": name.removeprefix("explain "), "pair": self.number})
            try:
                if self._factors.whole:
                    return self._of_runs(prepared, name, before, after)
                order = self._draw.choice(IN_TURNS)
                pair = self._run.pair(prepared, name, self.number, order, repeat=self._repeated < AGAIN)
            except Declined as reason:
                raise Declined(f"{self._factors.name(before)} | {self._factors.name(after)}: {reason}") from reason
            if pair.counts:
                return -log_ratio(order, pair.a, pair.b)
            self._repeated += 1

    def _of_runs(self, prepared: PreparedComparison, name: str, before: Switched, after: Switched) -> float:
        """Return the log ratio of the times to the end, imports and evaluation included, of two runs in random order.

        Both start without kept features of earlier runs.
        """
        samples = (self._factors.corner(switched).train_sample for switched in (before, after))
        one, other = (
            replace(side.job, train_sample=sample, features_path=None)
            for side, sample in zip(prepared.sides, samples, strict=True)
        )
        b_first = self._draw.random() < 0.5
        a, b = self._run.runs(prepared, (one, other), f"{name}, run {self.number}", b_first=b_first)
        return math.log(a.total_s / b.total_s)

    def prepared(self, before: Switched, after: Switched) -> PreparedComparison:
        """Prepare two combinations, once. Raises `Declined`, and `Refused` for other data or checkpoints."""
        if (before, after) not in self._prepared:
            one, other = self._factors.corner(before), self._factors.corner(after)
            specs = (
                SideSpec("A", self._factors.name(before), one.settings, python=one.python, delay=one.delay),
                SideSpec("B", self._factors.name(after), other.settings, python=other.python, delay=other.delay),
            )
            cases = one.selected, other.selected
            self._prepared[before, after] = self._run.preparation.prepare_speeds(specs, cases, self._stage)
        return self._prepared[before, after]


def explain(
    factors: FactorSet, run: ComparisonRun, catalogue: Catalogue, results: Path, stage: int | None, limit: Limit
) -> Explanation:
    """Group the factors that cannot be separated, measure, and return the shares. Raises `Declined` or `Refused`."""
    factors.group(factors.declined())
    pairs = Pairs(factors, run, stage)
    ends = pairs.prepared(frozenset(), factors.all)
    run.progress.expect(1)
    started = time.monotonic()
    blocks = measured(len(factors.factors), pairs.measure, limit)
    a, b = ends.sides
    return Explanation(
        label=ends.label,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        stage=a.stage + 1,
        factors=tuple(factors.factors),
        shares=shares(blocks),
        same_work=_other_versions(ends) or same_work((a.job.case, b.job.case), catalogue, results),
        pairs=pairs.number,
        seconds=round(time.monotonic() - started, 1),
        whole=factors.whole,
    )


def _other_versions(ends: PreparedComparison) -> SameWork | None:
    """Return that equal work is not proved if a package of both sides has two versions; None if there is none."""
    a, b = (dict(one.rsplit(" ", 1) for one in side.packages.split(", ") if one) for side in ends.facts)
    changed = [f"{name} {a[name]} → {b[name]}" for name in a if name in b and a[name] != b[name]]
    return SameWork(proved=False, reason=f"different versions: {', '.join(changed)}") if changed else None


def same_work(cases: tuple[Case, Case], catalogue: Catalogue, results: Path) -> SameWork:
    """Return whether a certificate covers both cases, or they differ only in what changes no number."""
    a, b = cases
    if different := _different(a, b):
        return SameWork(proved=False, reason=f"different {different}")
    if a.native or b.native:
        return SameWork(proved=False, reason="native defaults are other hyper-parameters and layers")
    machine = describe_machine()
    one, other = (subject_here(case, catalogue, machine) for case in cases)
    if one == other:
        return SameWork(proved=True)
    coverage = coverage_of(one, other, read_certificates(results).all)
    if coverage.certificate is None:
        return SameWork(proved=False, reason=coverage.reason)
    level = coverage.certificate.level(a.scenario.name)
    return SameWork(proved=True, certificate=f"{coverage.certificate.sha256[:8]}, P{level}")


def _different(a: Case, b: Case) -> str:
    """Return the label of a setting that differs, changes the training, and is in no certificate; empty without one."""
    if "native" in (a.input, b.input) and (a.input, a.backend_name) != (b.input, b.backend_name):
        return "pixels, because the input pipeline is native"
    names = [name for name, setting in SETTINGS.items() if setting.role == "setting" and setting.unproved]
    others = [name for name in names if name not in (*SAME_NUMBERS, "input", "dataset")]
    return next((SETTINGS[name].label for name in others if getattr(a, name) != getattr(b, name)), "")
