"""A sitting: one run's file, in which questions are asked and answered, with progress for whoever watches."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import Draft
from benchmarks.comparing.arms import ArmSpec
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.campaign import Campaign
from benchmarks.comparing.question import Places, Question, ask
from benchmarks.preparing.plan import Preparation
from benchmarks.running.progress import RunProgress
from harness.errors import Declined
from harness.process.machine import describe_machine, environment
from results.certificates.certificate import read_certificates
from results.storage.comparison import Comparison, Purpose
from results.storage.rows import Order, Pair
from results.storage.run_files import RunWriter, open_run
from results.verdicts.conclusion import adjusted


class ComparisonResults(NamedTuple):
    """Comparisons in the order of their questions, and a sentence about each question that could not be measured."""

    comparisons: list[Comparison]
    failed: list[str]


class Sitting:
    """Asks and answers; made by `comparing`."""

    def __init__(
        self, results: Path, catalogue: Catalogue, campaign: Campaign, writer: RunWriter, progress: RunProgress
    ) -> None:
        self._certificates = read_certificates(results)
        self._preparation = Preparation(catalogue, progress.on_event)
        self._places = Places(catalogue, progress.on_event)
        self._campaign, self._progress = campaign, progress
        self.path = writer.path

    def questions(
        self, specs: tuple[ArmSpec, ArmSpec], cases: Sequence[tuple[Draft, Draft]], stage: int | None
    ) -> list[Question]:
        """Every case made ready, before anything is measured; see `ask`."""
        return [ask(specs, case, stage, self._preparation, self._places, self._certificates) for case in cases]

    def compare(
        self,
        specs: tuple[ArmSpec, ArmSpec],
        cases: Sequence[tuple[Draft, Draft]],
        stage: int | None,
        purpose: Purpose = "compare",
    ) -> ComparisonResults:
        """Ask about every case, then measure; raises as `ask` does, before anything is measured."""
        return self.measure(self.questions(specs, cases, stage), purpose)

    def measure(self, questions: Sequence[Question], purpose: Purpose) -> ComparisonResults:
        """A comparison per question, with p adjusted over all; one that cannot be measured does not stop the others."""
        self._progress.expect(len(questions))
        comparisons, failed = [], []
        for question in questions:
            try:
                comparisons.append(self._campaign.answer(question, purpose))
            except Declined as error:
                failed.append(str(error))
        together = adjusted(comparisons) if len(comparisons) > 1 else comparisons
        self.store_again(one for one, before in zip(together, comparisons, strict=True) if one != before)
        return ComparisonResults(together, failed)

    def store_again(self, comparisons: Iterable[Comparison]) -> None:
        """Store comparisons to which something was added; of several rows of one, the last holds."""
        for one in comparisons:
            self._campaign.store_again(one)

    def pair(self, question: Question, name: str, number: int, order: Order) -> Pair:
        """One stored pair that counts. Raises `Declined`."""
        return self._campaign.pair(question, name, number, order)


@contextmanager
def comparing(
    results: Path, limits: Limits, catalogue: Catalogue, *, order_seed: int | None, quiet: bool = False
) -> Iterator[Sitting]:
    """Open a run for comparisons. On an interrupt what was measured is kept, and the run counts as unfinished."""
    machine = describe_machine()
    seed = secrets.randbelow(2**31) if order_seed is None else order_seed
    with (
        RunProgress(Console(stderr=True), quiet=quiet) as progress,
        open_run(results, command=sys.argv[1:], planned=(), machine=machine, environment=environment()) as writer,
    ):
        campaign = Campaign(writer, limits, seed, progress.on_event, machine.key)
        try:
            yield Sitting(results, catalogue, campaign, writer, progress)
        except KeyboardInterrupt:
            writer.finish("interrupted")
            click.echo(f"{writer.path} keeps what was measured", err=True)
            raise
        except BaseException:
            writer.finish("failed")
            raise
        writer.finish()
