"""Experiments in which sins are planted: two simulated backends run through the harness, from the plan to the table.

All other code is real: `execute`, `run_case`, the store, `load`, `table`, the ratios, `unfollowed`, `rehearse` and
`prove`. The last seed of the second backend runs with the sin, after all other runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import msgspec
from msgspec.structs import replace

import results
from benchmarks.datasets.writing import PreparedDataset
from benchmarks.preparing.plan import PlannedCase
from benchmarks.running import execute
from benchmarks.selftest import fixtures
from benchmarks.selftest.certificates import Rehearsals, rehearsed
from benchmarks.selftest.in_process import Memory, launch_here
from benchmarks.selftest.machine import SimulatedMachine
from benchmarks.selftest.simulated_backends import BACKENDS, FIRST, SECOND
from harness import PREFIX
from harness.errors import Declined, Refused
from harness.process import machine
from harness.rules import Breach, BrokenRule, ask, read_breaches, without
from harness.running.record import Record
from harness.spec import Case, Job, Scenario, key
from results.certificates.certificate import Certificate
from results.certificates.evidence import EvidencePair
from results.rules.certificate_rules import CERTIFICATE_RULES
from results.rules.table_rules import unfollowed
from results.storage.run_files import RunWriter, open_run
from results.tables.figures import MARKS
from results.tables.side_by_side import Ratio, side_by_side

SEEDS = 3
DECLARED = ("kept features",)
"""Marks that repeat a setting of the case."""
PLUGIN = f"{PREFIX}benchmarks.selftest.simulated_backends"
THIS = machine.Machine(cpu="turned by hand", cores=1, memory_gib=1, gpus=(), architecture="none")


class ExperimentSetting(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of an experiment. `certified` also makes a certificate of the second backend."""

    scenario: Scenario = fixtures.TWO_STAGES
    input: Literal["arrays", "stream"] = "arrays"
    head: Literal["linear", "mlp"] = "linear"
    features: Literal["live", "kept"] = "live"
    asynchronous: bool = False
    certified: bool = False
    seed: int = 0
    """The first of the seeds of the second backend; the first backend runs only the last one."""


class Experiment:
    """A setting with or without a sin. The answers of its workers are cached for repeated judgements."""

    def __init__(
        self, setting: ExperimentSetting, plant: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.setting, self.plant = setting, plant
        self.memory: Memory = {}
        self.evidence: EvidencePair | None = None
        self.records: list[Record] = []
        """The last records of both backends, with the same seed."""


class ExperimentRunner:
    """Runs experiments in a scratch folder; makes the checkpoint and the certificates once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._checkpoint = fixtures.checkpoint(home / "start.safetensors")
        self._rehearsals = Rehearsals(home)
        self._certificate = cache(self._certify)
        self._clean: dict[tuple[bytes, str], list[Record]] = {}

    def judge(self, experiment: Experiment, switched_off: Sequence[str] = ()) -> list[Breach | str]:
        """Return the breaches and other problems that the harness reports while some rules are switched off."""
        setting = experiment.setting
        certificate = self._certificate(msgspec.json.encode(_of_certificate(setting)))
        before = self._before(setting, fixtures.dataset(self._home))
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._home)))
            stack.enter_context(without(switched_off))
            stack.enter_context(experiment.plant())
            try:
                data = fixtures.dataset(self._home)
                if data.meta.sha256 != before[0].case.dataset_sha256:
                    before = self._before(setting, data)
                problems = [*self._run(experiment, data, before, folder), *_tabulated(folder, certificate)]
                if setting.certified:
                    experiment.evidence = experiment.evidence or self._rehearsals.compare(*self._jobs(setting, data))
                    problems += ask(CERTIFICATE_RULES, experiment.evidence, [rehearsed(setting.scenario)])
            except BrokenRule as error:
                problems = [error.breach]
            except (Refused, Declined) as error:
                problems = [str(error)]
        return list(dict.fromkeys(problems))

    def _run(
        self, experiment: Experiment, data: PreparedDataset, before: list[Record], folder: Path
    ) -> Iterator[Breach | str]:
        """Store the earlier records, run the last case, and yield the reasons of failures."""
        setting = experiment.setting
        plan = [self._planned(setting, data, SECOND, setting.seed + SEEDS - 1)]
        planned = [*(record.key for record in before), *(key(one.case) for one in plan)]
        with open_run(folder, command=["selftest"], planned=planned, machine=THIS, environment={}) as writer:
            for record in before:
                writer.append(record)
            records = self._execute(plan, writer, experiment)
            writer.finish()
        experiment.records = [before[0], *records]
        if execute.exit_code([*before, *records], wanted_by_name=False):
            for record in records:
                if record.status != "ok":
                    yield from read_breaches(record.reason or record.status)

    def _before(self, setting: ExperimentSetting, data: PreparedDataset) -> list[Record]:
        """Return the records without a sin: of the first backend, and of the second with all seeds except the last."""
        place = msgspec.json.encode(replace(setting, certified=False)), data.meta.sha256
        if place not in self._clean:
            seeds = [(FIRST, SEEDS - 1), *((SECOND, seed) for seed in range(SEEDS - 1))]
            plan = [self._planned(setting, data, backend, setting.seed + seed) for backend, seed in seeds]
            with (
                tempfile.TemporaryDirectory(dir=self._home) as folder,
                open_run(folder, command=["selftest"], planned=[], machine=THIS, environment={}) as writer,
            ):
                self._clean[place] = self._execute(plan, writer, Experiment(setting))
        return self._clean[place]

    def _execute(self, plan: list[PlannedCase], writer: RunWriter, experiment: Experiment) -> list[Record]:
        records = []
        for planned in plan:
            seed = planned.case.seed + 1000 * (planned.case.backend == SECOND)
            simulated = SimulatedMachine(seed, asynchronous=experiment.setting.asynchronous)
            with (
                patch.object(BACKENDS[planned.case.backend], "machine", simulated),
                patch.object(execute, "launch", launch_here(simulated.source, experiment.memory)),
            ):
                records += execute.execute([planned], writer, THIS, 60.0, lambda event: None)
        return records

    def _planned(self, setting: ExperimentSetting, data: PreparedDataset, backend: str, seed: int) -> PlannedCase:
        case = Case(
            backend=backend,
            model=fixtures.MODEL,
            scenario=setting.scenario,
            dataset=data.meta.name,
            dataset_sha256=data.meta.sha256,
            image_size=fixtures.SIZE,
            checkpoint=self._checkpoint.name,
            checkpoint_sha256=self._checkpoint.sha256,
            augment=fixtures.AUGMENT,
            head=setting.head,
            features=setting.features,
            input=setting.input,
            workers=2 if setting.input == "stream" else 0,
            seed=seed,
        )
        weights = str(self._checkpoint.path)
        job = Job(case=case, dataset_path=str(data.folder), checkpoint_path=weights, plugins=(PLUGIN,), train_sample=8)
        return PlannedCase(case, job)

    def _jobs(self, setting: ExperimentSetting, data: PreparedDataset) -> tuple[Job, Job]:
        plain = _of_certificate(setting)
        one, other = (self._planned(plain, data, backend, 0).job for backend in (FIRST, SECOND))
        assert one is not None and other is not None
        return one, other

    def _certify(self, encoded: bytes) -> Certificate:
        setting = msgspec.json.decode(encoded, type=ExperimentSetting)
        return self._rehearsals.certificate(*self._jobs(setting, fixtures.dataset(self._home)))


def _of_certificate(setting: ExperimentSetting) -> ExperimentSetting:
    """Return the part of a setting that a certificate depends on."""
    return ExperimentSetting(scenario=setting.scenario, head=setting.head, features=setting.features)


def _tabulated(folder: Path, certificate: Certificate) -> Iterator[Breach | str]:
    """Yield the warnings, marks, reasons and refused ratios of the table of a results folder."""
    frame = results.load(folder)
    table = results.table(frame)
    yield from table.attrs["warnings"]
    for row in table.to_dict("records"):
        for mark in (MARKS[code] for code in row["marks"] if code not in DECLARED):
            yield Breach(mark.rule, "", mark.words) if mark.rule else mark.words
        if row["status"] not in ("ok", "skipped"):
            yield from read_breaches(row["reason"])
    yield from unfollowed(table, frame)
    for line in side_by_side(table, "throughput", [certificate]):
        yield from (ratio for ratio in line.ratios.values() if not isinstance(ratio, Ratio))
