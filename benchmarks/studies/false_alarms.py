"""Verdicts of real comparisons: a network against itself and against a slowed copy, with and without another load.

    python -m benchmarks.studies.false_alarms --results campaign/

Each comparison is stored and not repeated, so the study can be stopped at any time and continued.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.sides import SideSpec, expand_sides
from benchmarks.running.terminal import use_stand_ins
from harness.process.machine import usable_cores
from results.storage.comparison import Comparison
from results.storage.folder import RESULTS
from results.verdicts.stored_comparisons import read_comparisons

CASE: dict[str, Any] = {
    "backend": ("pytorch",), "model": ("resnet18",), "scenario": ("scratch",), "image_size": (32,),
    "augment": ("none",),
}  # fmt: skip


class StudyCondition(NamedTuple):
    """The delay injected into B, whether another process is busy, and the number of comparisons."""

    delay: float
    loaded: bool
    times: int

    @property
    def name(self) -> str:
        """Its printed name."""
        what = f"+{self.delay:.0%}" if self.delay else "A/A"
        return f"{what} beside a load" if self.loaded else what

    @property
    def text(self) -> str:
        """The text of side B in the stored comparisons."""
        return "here, beside a load" if self.loaded else "here"


CONDITIONS = (
    StudyCondition(0.0, False, 5), StudyCondition(0.10, False, 5), StudyCondition(0.05, False, 5),
    StudyCondition(0.0, True, 3), StudyCondition(0.05, True, 3), StudyCondition(0.10, True, 3),
)  # fmt: skip


@click.command
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, show_default=True)
@click.option("--margin", type=float, default=0.03, show_default=True)
@click.option("--summary", is_flag=True, help="only sum up the comparisons that are stored")
def main(results: Path, margin: float, *, summary: bool) -> None:
    """Run the missing comparisons and sum up all of them; exit with 1 if verdicts were wrong too often."""
    if not summary:
        catalogue = read_catalogue()
        for condition in CONDITIONS:
            for _ in range(condition.times - len(_of(condition, results))):
                with (
                    open_comparison_run(results, Limits(margin=margin, seeds=0), catalogue, order_seed=None) as run,
                    _load(condition),
                ):
                    specs = SideSpec("A", "here", {}), SideSpec("B", condition.text, {}, delay=condition.delay)
                    found = run.measure(run.prepare(specs, expand_sides(specs, CASE, catalogue), None), "compare")
                for sentence in (*(one.sentence for one in found.comparisons), *found.failed):
                    click.echo(f"{condition.name}: {sentence}")
    wrong = [line for condition in CONDITIONS for line in _summed(condition, _of(condition, results))]
    sys.exit(1 if wrong else 0)


def _of(condition: StudyCondition, results: Path) -> list[Comparison]:
    """Return the finished comparisons of a condition."""
    stored = read_comparisons(results) if results.exists() else []
    finished = [one.comparison for one in stored if one.comparison is not None]
    wanted = condition.delay, condition.text
    return [one for one in finished if (one.sides[1].injected, one.sides[1].text) == wanted]


def _summed(condition: StudyCondition, comparisons: list[Comparison]) -> list[str]:
    """Print the verdicts of a condition; return a sentence for each unexpected one."""
    times = [finding for one in comparisons for finding in one.findings if finding.metric == "throughput"]
    covered = sum(finding.low <= math.log1p(condition.delay) <= finding.high for finding in times)
    words = [one.verdict for one in comparisons]
    changes = ", ".join(
        f"{100 * math.expm1(f.change):+.1f} ({100 * math.expm1(f.low):+.1f} to {100 * math.expm1(f.high):+.1f})"
        for f in times
    )
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    inside = f"truth inside {covered} of {len(times)}"
    click.echo(f"{condition.name}: {len(words)} of {condition.times}: {counts}; {inside}; cost {changes} %")
    wrong = []
    if condition.delay == 0 and "regression" in words:
        wrong.append(f"{condition.name}: a regression where nothing differs")
    if "improvement" in words:
        wrong.append(f"{condition.name}: an improvement where there is none")
    if condition.delay == 0.10 and not condition.loaded and words.count("regression") < len(words) - 1:
        wrong.append(f"{condition.name}: found in {words.count('regression')} of {len(words)}")
    for line in wrong:
        click.echo(f"! {line}")
    return wrong


@contextmanager
def _load(condition: StudyCondition) -> Iterator[None]:
    """Keep the first core busy with a process during the block; measured workers use the last cores."""
    if not condition.loaded:
        yield
        return
    neighbour = multiprocessing.get_context("spawn").Process(target=_spin, args=(usable_cores()[0],), daemon=True)
    neighbour.start()
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.join()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    block = bytearray(2**24)  # a load on processor and memory
    while True:
        block[:] = bytes(sum(range(20_000)) % 256 for _ in range(1)) * len(block)


if __name__ == "__main__":
    use_stand_ins()
    main()
