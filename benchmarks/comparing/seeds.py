"""Measure the accuracy of both sides over seeds: complete runs, each in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from benchmarks.comparing.base_runs import BaseRuns
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
    """Runs a case with several seeds; for each seed both sides run one after the other, in random order.

    With `base_runs`, a run of side A that is kept there is not measured again.
    """

    def __init__(
        self,
        prepared: PreparedComparison,
        writer: RunWriter,
        comparison: str,
        machine: str,
        timeout_s: float,
        on_event: Callable[[Event], None],
        base_runs: BaseRuns | None = None,
    ) -> None:
        self._base_runs, self._kept = base_runs, 0
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
        return [replace(found, explanation="; ".join(filter(None, (flips(a, b).sentence(), self._sentence()))))]

    def _run(self, side: SideName, seed: int) -> Record:
        job, place, *_ = self._prepared.sides[0 if side == "A" else 1]
        job = replace(job, case=replace(job.case, seed=seed))
        base_runs = self._base_runs if side == "A" else None
        if base_runs and (kept := base_runs.find(job, self._writer.results_dir)):
            self._kept += 1
            self._writer.append_of_side(kept, self._comparison, side)
            return kept
        imported: dict[str, str] | None = None

        def on_event(event: Event) -> None:
            nonlocal imported
            imported = event.get("imported", imported)
            self._on_event(event)

        self._on_event({"comparing": self._prepared.label, "side": side, "seed": seed})
        record = run_side(job, self._writer, self._comparison, side, self._machine, self._timeout_s, on_event, place)
        if record.status != "ok":
            raise Declined(f"{self._prepared.label}, side {side}, seed {seed}: {record.status} – {record.reason}")
        if base_runs and (imported is not None or not job.plugins):
            base_runs.keep(job, record, imported or {}, self._writer.results_dir)
        return record

    def _sentence(self) -> str:
        """Return how many runs of side A were measured before; empty if none were."""
        if not self._kept:
            return ""
        return f"side A: {self._kept} of its runs are from the cache, measured by an earlier gate on this machine"
