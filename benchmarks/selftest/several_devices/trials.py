"""Plant every mistake in every backend that trains on several devices, and check that the certificate finds it."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

import backends
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.selftest import fixtures
from benchmarks.selftest.certificates import Rehearsals, rehearsed
from benchmarks.selftest.several_devices.mistakes import MISTAKES, DeviceMistake
from benchmarks.selftest.sin import SinPlace
from harness import PREFIX
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.launch import Event
from harness.spec import Case, Job, Scenario, Stage
from results.certificates.certificate import Check
from results.certificates.proof import prove

DEVICES = 2
MODEL = "small-network"
"""The model of `plugin_of` a backend."""
SCENARIO = Scenario(
    name="full",
    explanation="",
    stages=(Stage(epochs=1, head_lr=0.05, backbone_lr=0.05, batch_size=fixtures.BATCH),),
    start="random",
)


class DeviceTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in one form. `found` are the failed checks of the certificate, with the ids of their rules."""

    name: str
    magnitude: str
    found: tuple[str, ...]


class SeveralDevices(msgspec.Struct, frozen=True, kw_only=True):
    """The trials of one backend, or why it has none. `clean` are the checks that fail without a mistake."""

    backend: str
    declined: str = ""
    clean: tuple[str, ...] = ()
    trials: tuple[DeviceTrial, ...] = ()


def run(backend: str, engine: str | None, seed: int, report: Callable[[dict[str, Any]], None]) -> SeveralDevices:
    """Compare two devices with one, without a mistake and with each; in a worker."""
    module = importlib.import_module(f"{PREFIX}backends.{backend}")
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as home:
        one = _job(backend, engine, Path(home))
        two = replace(one, case=replace(one.case, devices=DEVICES))
        # JAX divides the processor before its first computation, so several devices come first.
        if reason := module.decline(two.case):
            return SeveralDevices(backend=one.case.backend_name, declined=reason)
        rehearsals = Rehearsals(Path(home))

        def failed() -> tuple[str, ...]:
            checks = prove(rehearsals.compare(one, two), [rehearsed(SCENARIO)])
            return tuple(_text(check) for check in checks if not check.passed)

        report({"trying": f"{one.case.backend_name} on {DEVICES} devices"})
        clean, trials = failed(), []
        for number, mistake in enumerate(MISTAKES):
            report({"trying": f"{mistake.name}, {one.case.backend_name}"})
            for gross in (True, False):
                place = SinPlace(gross, np.random.default_rng([seed, number, gross]))
                with mistake.plant(module, place):
                    trials.append(_trial(mistake, gross, failed()))
    return SeveralDevices(backend=one.case.backend_name, clean=clean, trials=tuple(trials))


def _trial(mistake: DeviceMistake, gross: bool, found: tuple[str, ...]) -> DeviceTrial:
    return DeviceTrial(name=mistake.name, magnitude="gross" if gross else "subtle", found=found)


def _job(backend: str, engine: str | None, home: Path) -> Job:
    data = fixtures.dataset(home)
    case = Case(
        backend=backend,
        engine=engine,
        model=MODEL,
        scenario=SCENARIO,
        dataset=data.meta.name,
        dataset_sha256=data.meta.sha256,
        image_size=fixtures.SIZE,
        device="cpu",
        dropout=False,
    )
    return Job(case=case, dataset_path=str(data.folder), plugins=(str(plugin_of(backend)),))


def plugin_of(backend: str) -> Path:
    """Return the plugin file with the small network of a backend; the reference has none."""
    return Path(str(backends.__file__)).parent / backend / "probing" / "small_network.py"


def _text(check: Check) -> str:
    return f"P{check.level} {check.what}: {check.worst:.1e}, at most {check.limit:.0e} ({check.rule})"


def try_all(seed: int, on_event: Callable[[Event], None]) -> list[SeveralDevices]:
    """Try every backend and engine except the reference."""
    return [
        _ask(backend, engine, seed, on_event)
        for backend, facts in read_catalogue().backends.items()
        if backend != "reference"
        for engine in facts.engines or (None,)
    ]


def _ask(backend: str, engine: str | None, seed: int, on_event: Callable[[Event], None]) -> SeveralDevices:
    arguments = {"backend": backend, "engine": engine, "seed": seed}
    try:
        return ask(run, arguments, SeveralDevices, engine=engine, on_event=on_event, timeout_s=600)
    except (Declined, Refused) as error:
        return SeveralDevices(backend=backend if engine is None else f"{backend}-{engine}", declined=str(error))


def score(several: Sequence[SeveralDevices]) -> tuple[int, int]:
    """Return the number of mistakes that were found in both forms, and of all.

    None counts in a backend in which a check fails without a mistake.
    """
    names = {(one.backend, trial.name) for one in several for trial in one.trials}
    missed = {(one.backend, trial.name) for one in several for trial in one.trials if one.clean or not trial.found}
    return len(names - missed), len(names)


def described(several: Sequence[SeveralDevices]) -> Iterator[str]:
    """Yield the lines about each backend."""
    yield f"Mistakes on {DEVICES} devices, planted in the real backends and compared with one device by a certificate:"
    for one in several:
        if one.declined:
            yield f"--  {one.backend}: {one.declined}"
            continue
        proved = f"NO, {'; '.join(one.clean)}" if one.clean else "every check passes"
        yield f"{'NO ' if one.clean else 'ok '} {one.backend}, no mistake: {proved}"
        for trial in one.trials:
            found = trial.found[0] if trial.found else "not found"
            yield f"{'ok ' if trial.found else 'NO '} {one.backend}, {trial.name}, {trial.magnitude}: {found}"
