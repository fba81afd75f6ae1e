"""Make a certificate: run both arms, each precision in its own process, and compare their answers."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from msgspec.structs import replace

import backends
import harness
from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import WHOLE, SelectedCase
from benchmarks.preparing.plan import Preparation
from harness import PROTOCOL
from harness.certifying.answers import ArmAnswers
from harness.certifying.questions import STEPS, TRAINED_AT, rehearse
from harness.process.ask import ask
from harness.process.environment import sources_digest
from harness.process.launch import Event
from harness.spec import Job, Precision, Scenario
from results.certificates.certificate import PROVED, Arm, Certificate, essence, packages, proved_settings, seal
from results.certificates.evidence import ArmEvidence, EvidencePair, open_answers
from results.certificates.proof import prove

LONG_SIZES = (224, 75)
"""Further image sizes of a long certificate: the common one, and an odd one."""
DATA = "embedded"
"""The data of all certificates; the proof does not depend on it."""


class Request(NamedTuple):
    """A certificate to make: for each arm one case per scenario, and the image sizes for P0 to P2.

    With `priced` it also measures the time of replaced layers and optimizers, which is slow and not part of the proof.
    """

    arms: tuple[list[SelectedCase], list[SelectedCase]]
    sizes: tuple[int, ...]
    with_checkpoint: bool
    priced: bool = True

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios, in the order given."""
        return tuple(selected.case.scenario for selected in self.arms[0])

    @property
    def accelerated(self) -> dict[str, Any]:
        """The settings in which the arms differ, if both have the same backend."""
        one, other = (cases[0].case for cases in self.arms)
        if one.backend_name != other.backend_name:
            return {}
        return {name: getattr(other, name) for name in PROVED if getattr(one, name) != getattr(other, name)}

    @property
    def label(self) -> str:
        """The model and both arms, for messages."""
        one, other = (cases[0].case for cases in self.arms)
        second = written(self.accelerated) or other.backend_name
        return f"{one.model} in {one.backend_name} and {second}"


def written(settings: Mapping[str, Any]) -> str:
    """Write settings as in `--set`.

    >>> written({"features": "kept", "compile": True})
    'features=kept, compile=true'
    """
    return ", ".join(f"{name}={str(value).lower()}" for name, value in settings.items())


class PreparedRequest(NamedTuple):
    """The jobs of both arms, and sixteen hex digits of everything that the answers depend on."""

    arms: tuple[list[Job], list[Job]]
    key: str


def prepare(request: Request, catalogue: Catalogue, on_event: Callable[[Event], None]) -> PreparedRequest:
    """Prepare data and checkpoint, and return the jobs. Raises `Refused` or `Declined` if a case cannot run."""
    preparation = Preparation(catalogue, on_event)
    shortened = ([_rehearsed(one, request.with_checkpoint) for one in cases] for cases in request.arms)
    one, other = ([preparation.plan(selected).required_job() for selected in cases] for cases in shortened)
    installed = [_packages(jobs[0], catalogue) for jobs in (one, other)]
    content = [PROTOCOL, one, other, request.sizes, request.priced, _code(), *installed]
    return PreparedRequest((one, other), _digest(content)[:16])


def certify(
    request: Request, prepared: PreparedRequest, catalogue: Catalogue, on_event: Callable[[Event], None]
) -> Certificate:
    """Run both arms in float64 and in the case's precision, two processes at a time, and compare. Takes minutes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch, ThreadPoolExecutor(2) as pool:
        # The second arm starts first: it usually compiles, which takes longest.
        futures = [
            pool.submit(_ask, request, number, jobs, precision, Path(scratch) / f"{precision}-{number}", on_event)
            for number, jobs in reversed(tuple(enumerate(prepared.arms)))
            for precision in ("fp64", prepared.arms[0][0].case.precision)
        ]
        wide_other, narrow_other, wide_one, narrow_one = _results(futures, pool)
        pair = EvidencePair((wide_one, wide_other), (narrow_one, narrow_other))
        checks = prove(pair, [job.case.scenario for job in prepared.arms[0]])
        sides = zip(prepared.arms, pair.narrow, pair.wide, strict=True)
        arms = tuple(arm_of(jobs[0], narrow, wide, catalogue) for jobs, narrow, wide in sides)
    case = prepared.arms[0][0].case
    # The first scenario may start from random values and have no checkpoint.
    pretrained = next((job.case for job in prepared.arms[0] if job.case.checkpoint), case)
    return seal(
        Certificate(
            model=case.model,
            **proved_settings(case),
            accelerated=request.accelerated,
            checkpoint=pretrained.checkpoint if request.with_checkpoint else None,
            checkpoint_sha256=pretrained.checkpoint_sha256 if request.with_checkpoint else None,
            dataset_sha256=case.dataset_sha256,
            image_sizes=request.sizes,
            arms=(arms[0], arms[1]),
            scenarios={scenario.name: essence(scenario) for scenario in request.scenarios},
            batch_sizes={one.name: tuple(stage.batch_size for stage in one.stages) for one in request.scenarios},
            checks=tuple(checks),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 1),
        )
    )


def _results(futures: Sequence[Future[ArmEvidence]], pool: ThreadPoolExecutor) -> list[ArmEvidence]:
    try:
        return [future.result() for future in futures]
    except BaseException:
        # The threads end only after their workers.
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in psutil.Process().children():
            worker.kill()
        raise


def _rehearsed(selected: SelectedCase, with_checkpoint: bool) -> SelectedCase:
    scenario = selected.case.scenario
    stages = tuple(replace(stage, epochs=STEPS) for stage in scenario.stages)
    start = scenario.start if with_checkpoint else "random"
    scenario = replace(scenario, stages=stages, start=start)
    case = replace(
        selected.case, scenario=scenario, dataset=DATA, image_size=TRAINED_AT, dropout=False, limit=None,
        input="arrays", workers=0, seed=0, reuse_head=False,
    )  # fmt: skip
    return selected._replace(case=case, division=WHOLE)


def _ask(
    request: Request,
    number: int,
    jobs: Sequence[Job],
    precision: Precision,
    folder: Path,
    on_event: Callable[[Event], None],
) -> ArmEvidence:
    case = jobs[0].case
    settings = f" with {written(request.accelerated)}" if number and request.accelerated else ""
    arm = f"{case.backend_name}{settings} in {precision}"
    in_precision = [replace(job, case=replace(job.case, precision=precision)) for job in jobs]
    answers = ask(
        rehearse,
        {"jobs": in_precision, "sizes": request.sizes, "priced": request.priced},
        ArmAnswers,
        folder=folder,
        about=arm,
        engine=case.engine,
        on_event=lambda event: on_event({"certifying": arm, **event}),
    )
    return open_answers(answers, folder)


def arm_of(job: Job, narrow: ArmEvidence, wide: ArmEvidence, catalogue: Catalogue) -> Arm:
    """Return one side of a certificate, from its answers in the case's precision and in float64."""
    facts = narrow.facts
    return Arm(
        backend=job.case.backend_name,
        packages=_packages(job, catalogue),
        device=facts.device,
        settings=facts.settings,
        digests={place: _digest(found) for place, found in facts.start.items()},
        stand_ins=facts.stand_ins,
        stand_ins_in_float64=dict(sorted(wide.facts.stand_ins.items() - facts.stand_ins.items())),
        cost=facts.cost,
    )


def _packages(job: Job, catalogue: Catalogue) -> str:
    return packages(catalogue.backends[job.case.backend].versions(job.case.engine))


def _digest(content: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def _code() -> str:
    """Return the digest of the code that gives the answers; a change of it makes a new certificate."""
    return sources_digest(*(Path(package.__path__[0]) for package in (harness, backends)))
