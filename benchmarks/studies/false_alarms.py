"""The verdicts tried for real: a network against itself, against itself slowed, and both beside a busy neighbour.

    python -m benchmarks.studies.false_alarms --results campaign/

Each comparison is stored; what is done already is not done again, so it may be stopped at any time and goes on.
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
from benchmarks.comparing.arms import ArmSpec, drafts
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.session import comparing
from benchmarks.running.terminal import use_stand_ins
from harness.process.machine import usable_cores
from results.storage.folder import RESULTS
from results.verdicts.stored_comparisons import Compared, comparisons

CASE: dict[str, Any] = {
    "backend": ("pytorch",), "model": ("resnet18",), "scenario": ("scratch",), "image_size": (32,),
    "augment": ("none",),
}  # fmt: skip


class Trial(NamedTuple):
    """What is injected into B, whether a neighbour is busy, and how many comparisons are made of it."""

    delay: float
    loaded: bool
    times: int

    @property
    def name(self) -> str:
        """As it is printed."""
        what = f"+{self.delay:.0%}" if self.delay else "A/A"
        return f"{what} beside a load" if self.loaded else what


TRIALS = (Trial(0.0, False, 5), Trial(0.10, False, 5), Trial(0.05, False, 5),
          Trial(0.0, True, 3), Trial(0.05, True, 3), Trial(0.10, True, 3))  # fmt: skip


@click.command
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, show_default=True)
@click.option("--margin", type=float, default=0.03, show_default=True)
@click.option("--summary", is_flag=True, help="only say what is there")
def main(results: Path, margin: float, *, summary: bool) -> None:
    """Run what is missing of the campaign, and sum up all of it; ends with 1 if a verdict was wrong too often."""
    if not summary:
        catalogue = read_catalogue()
        for trial in TRIALS:
            for _ in range(trial.times - len(_of(trial, results))):
                with (
                    comparing(results, Limits(margin=margin, seeds=0), catalogue, order_seed=None) as sitting,
                    _load(trial),
                ):
                    specs = ArmSpec("A", "here", {}), ArmSpec("B", _said(trial), {}, delay=trial.delay)
                    answers = sitting.compare(specs, drafts(specs, CASE, catalogue), None)
                for said in (*(one.sentence for one in answers.comparisons), *answers.failed):
                    click.echo(f"{trial.name}: {said}")
    wrong = [line for trial in TRIALS for line in _summed(trial, _of(trial, results))]
    sys.exit(1 if wrong else 0)


def _said(trial: Trial) -> str:
    return "here, beside a load" if trial.loaded else "here"


def _of(trial: Trial, results: Path) -> list[Compared]:
    """Finished comparisons of a trial."""
    stored = comparisons(results) if results.exists() else []
    return [
        one
        for one in stored
        if one.verdict is not None
        and one.verdict.arms[1].injected == trial.delay
        and one.verdict.arms[1].said == _said(trial)
    ]


def _summed(trial: Trial, done: list[Compared]) -> list[str]:
    """Print a trial's verdicts; returns what is wrong with them, in sentences."""
    verdicts = [one.verdict for one in done if one.verdict is not None]
    times = [finding for verdict in verdicts for finding in verdict.findings if finding.metric == "throughput"]
    covered = sum(finding.low <= math.log1p(trial.delay) <= finding.high for finding in times)
    words = [verdict.verdict for verdict in verdicts]
    changes = ", ".join(
        f"{100 * math.expm1(f.change):+.1f} ({100 * math.expm1(f.low):+.1f} to {100 * math.expm1(f.high):+.1f})"
        for f in times
    )
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    inside = f"truth inside {covered} of {len(times)}"
    click.echo(f"{trial.name}: {len(words)} of {trial.times}: {counts}; {inside}; cost {changes} %")
    wrong = []
    if trial.delay == 0 and "regression" in words:
        wrong.append(f"{trial.name}: a regression where nothing differs")
    if "improvement" in words:
        wrong.append(f"{trial.name}: an improvement where there is none")
    if trial.delay == 0.10 and not trial.loaded and words.count("regression") < len(words) - 1:
        wrong.append(f"{trial.name}: found in {words.count('regression')} of {len(words)}")
    for line in wrong:
        click.echo(f"! {line}")
    return wrong


@contextmanager
def _load(trial: Trial) -> Iterator[None]:
    """A busy process on the first core for as long as the block lasts; measured workers have the last ones."""
    if not trial.loaded:
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
    block = bytearray(2**24)  # busy with arithmetic and with memory, as a neighbour is
    while True:
        block[:] = bytes(sum(range(20_000)) % 256 for _ in range(1)) * len(block)


if __name__ == "__main__":
    use_stand_ins()
    main()
