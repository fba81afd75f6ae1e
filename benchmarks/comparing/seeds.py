"""Measure the accuracy of both sides over seeds: complete runs, each in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from benchmarks.comparing.prepare import PreparedComparison
from benchmarks.running.execute import run_side
from harness.errors import Declined
from harness.process.launch import Event
from harness.running.record import Record
from results.storage.comparison import Finding
from results.storage.objects import get_arrays
from results.storage.rows import SideName
from results.storage.run_files import RunWriter
from results.verdicts.accuracy_verdict import accuracy_finding, flips


class SeedRuns:
    """Runs a case with several seeds; for each seed both sides run one after the other, in random order."""

    def __init__(
        self,
        prepared: PreparedComparison,
        writer: RunWriter,
        comparison: str,
        machine: str,
        timeout_s: float,
        on_event: Callable[[Event], None],
    ) -> None:
        self._prepared, self._writer, self._comparison = prepared, writer, comparison
        self._machine, self._timeout_s, self._on_event = machine, timeout_s, on_event

    def finding(self, seeds: Iterable[int], left_s: Callable[[], float]) -> list[Finding]:
        """Return one finding over the seeds that fit the budget; none if they are fewer than two per side."""
        records: dict[SideName, list[Record]] = {"A": [], "B": []}
        slowest = 0.0
        for seed in seeds:
            if left_s() < 2 * slowest:
                break
            sides: list[SideName] = ["A", "B"]
            random.Random(f"{self._comparison} {seed}").shuffle(sides)
            for side in sides:
                records[side].append(self._run(side, seed))
                slowest = max(slowest, records[side][-1].total_s)
        if len(records["B"]) < 2:
            return []
        found = accuracy_finding(records["A"], records["B"])
        folder = self._writer.results_dir
        a, b = ([get_arrays(folder, record.logits or "") for record in side] for side in records.values())
        return [replace(found, explanation=flips(a, b).sentence())]

    def _run(self, side: SideName, seed: int) -> Record:
        job, place, *_ = self._prepared.sides[0 if side == "A" else 1]
        job = replace(job, case=replace(job.case, seed=seed))
        self._on_event({"comparing": self._prepared.label, "side": side, "seed": seed})
        facts = self._comparison, side, self._machine, self._timeout_s, self._on_event
        record = run_side(job, self._writer, *facts, place)
        if record.status != "ok":
            raise Declined(f"{self._prepared.label}, side {side}, seed {seed}: {record.status} – {record.reason}")
        return record
