"""Certificates of the two simulated backends, made in this process by the real `rehearse` and `prove`."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from backends import reference
from benchmarks.selftest.simulated_backends import FIRST, SECOND
from harness.certifying.questions import STEPS, rehearse
from harness.process import machine
from harness.spec import Job, Scenario
from results.certificates.certificate import Arm, Certificate, essence, packages, proved_settings, seal
from results.certificates.evidence import ArmEvidence, EvidencePair, open_answers
from results.certificates.proof import prove

Arms = tuple[ArmEvidence, ArmEvidence]
"""The answers of one backend in float64 and in float32."""


class Rehearsals:
    """Gets the answers of backends for certificates. `home` is a scratch folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._first = cache(self.ask)

    def compare(self, first: Job, second: Job) -> EvidencePair:
        """Return the evidence of two jobs that differ in the backend; the answers for `first` are cached."""
        one, other = self._first(msgspec.json.encode(first)), self.ask(msgspec.json.encode(second))
        return EvidencePair((one[0], other[0]), (one[1], other[1]))

    def ask(self, encoded: bytes) -> Arms:
        """Get the answers of one backend in both precisions."""
        job = msgspec.json.decode(encoded, type=Job)
        case = replace(job.case, scenario=rehearsed(job.case.scenario), dropout=False)
        return self._answer(replace(job, case=replace(case, precision="fp64"))), self._answer(replace(job, case=case))

    def _answer(self, job: Job) -> ArmEvidence:
        with tempfile.TemporaryDirectory(dir=self._home) as folder:
            facts = rehearse([job], [job.case.image_size], folder, lambda event: None, priced=False)
            answers = open_answers(facts, Path(folder))
            return answers._replace(arrays=dict(answers.arrays))

    def certificate(self, first: Job, second: Job) -> Certificate:
        """Make the certificate of two jobs that differ in the backend."""
        case = first.case
        installed = packages(machine.versions(reference.PACKAGES))
        facts: dict[str, Any] = {"packages": installed, "device": "cpu", "settings": {}, "digests": {}}
        one, other = (Arm(backend=name, **facts) for name in (FIRST, SECOND))
        return seal(
            Certificate(
                model=case.model,
                **proved_settings(case),
                checkpoint=case.checkpoint,
                checkpoint_sha256=case.checkpoint_sha256,
                dataset_sha256=case.dataset_sha256,
                image_sizes=(case.image_size,),
                arms=(one, other),
                scenarios={case.scenario.name: essence(case.scenario)},
                batch_sizes={case.scenario.name: tuple(stage.batch_size for stage in case.scenario.stages)},
                checks=tuple(prove(self.compare(first, second), [rehearsed(case.scenario)])),
                made="",
                seconds=0.0,
            )
        )


def rehearsed(scenario: Scenario) -> Scenario:
    """Return the scenario with the few steps of a certificate."""
    return replace(scenario, stages=tuple(replace(s, epochs=STEPS) for s in scenario.stages))
