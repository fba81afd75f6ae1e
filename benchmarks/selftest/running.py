"""Plant every sin, see its rule report it, switch the rule off, and see the sin pass. Runs in two workers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.selftest import fixtures
from benchmarks.selftest.experiments import SEEDS, Experiment, ExperimentRunner, ExperimentSetting
from benchmarks.selftest.naive_formulas import NaiveResult, show
from benchmarks.selftest.sin import Sin, SinPlace
from benchmarks.selftest.sins import SINS
from harness.process.ask import ask
from harness.process.launch import Event
from harness.process.machine import usable_cores
from harness.rules import Breach

CLEAN_RUNS = 100
MEMORY = Path("/dev/shm")
"""Hundreds of small files are written and thrown away; where there is a file system in memory, there."""
ROUNDS = 5
"""How often rules that also notice a sin are looked for."""


class SinTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One sin in one magnitude. `said` is what its rule said, `also` are rules that would have noticed it besides.

    `fault` says what is wrong with the proof; empty if nothing is.
    """

    name: str
    rule: str
    magnitude: str
    said: str = ""
    also: tuple[str, ...] = ()
    fault: str = ""


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """Runs without a sin, and what was said against them."""

    runs: int
    said: tuple[str, ...]


class SelftestOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was tried."""

    trials: tuple[SinTrial, ...]
    clean: Clean
    shown: tuple[NaiveResult, ...] = ()


def run(
    seed: int, part: int, parts: int, report: Callable[[dict[str, Any]], None], clean_runs: int = CLEAN_RUNS
) -> SelftestOutcome:
    """Try a part of the sins, at a seed's places, and of the clean runs; the last part shows the naive formulas."""
    with tempfile.TemporaryDirectory(prefix="finetune-bench-", dir=MEMORY if MEMORY.is_dir() else None) as home:
        runner = ExperimentRunner(Path(home))
        trials = []
        for number, sin in list(enumerate(SINS))[part::parts]:
            report({"begin": sin.name})
            trials += [attempt(runner, sin, gross, (seed, number)) for gross in (True, False)]
        report({"begin": "no sin"})
        clean = without_sin(runner, seed, range(part, -(-clean_runs // (SEEDS + 1)), parts))
        shown = show(runner) if part == parts - 1 else []
        return SelftestOutcome(trials=tuple(trials), clean=clean, shown=tuple(shown))


def attempt(runner: ExperimentRunner, sin: Sin, gross: bool, seed: tuple[int, ...]) -> SinTrial:
    """Plant a sin and see who notices: its rule, its rule alone, and without it nobody."""

    def planted() -> Any:
        return sin.plant(SinPlace(gross, np.random.default_rng([*seed, gross])))

    trial = partial(SinTrial, name=sin.name, rule=sin.rule, magnitude="gross" if gross else "subtle")
    experiment = Experiment(sin.setting, planted)
    noticed = runner.judge(experiment)
    spoken = [said for said in noticed if sin.rule in ids([said])]
    if not spoken:
        return trial(fault=f"{sin.rule} does not notice it: {list(map(str, noticed)) or 'nothing was said'}")
    also: list[str] = []
    for _ in range(ROUNDS):
        left = runner.judge(experiment, [sin.rule, *also])
        more = ids(left) - {sin.rule, *also}
        if not more:
            break
        also += sorted(more)
    fault = f"without {sin.rule} it is still noticed: {list(map(str, left))}" if left else ""
    if also and sin.rule not in ids(runner.judge(experiment, also)):
        fault = f"{sin.rule} does not notice it alone, without {', '.join(also)}"
    return trial(said=str(spoken[0]), also=tuple(also), fault=fault)


def ids(said: Iterable[Breach | str]) -> set[str]:
    """The rules of the breaches."""
    return {one.rule for one in said if isinstance(one, Breach)}


def without_sin(runner: ExperimentRunner, seed: int, experiments: Sequence[int]) -> Clean:
    """Different scenarios, inputs, heads and seeds, and no sin in any of them; each experiment is of several runs."""
    said: list[str] = []
    for number in experiments:
        draw = np.random.default_rng([seed, number])
        setting = ExperimentSetting(
            scenario=fixtures.SCENARIOS[number % len(fixtures.SCENARIOS)],
            input="stream" if draw.random() < 0.3 else "arrays",
            head="mlp" if draw.random() < 0.3 else "linear",
            asynchronous=bool(draw.random() < 0.5),
            certified=number < len(fixtures.SCENARIOS),
            seed=SEEDS * (number + 1),
        )
        said += map(str, runner.judge(Experiment(setting)))
    return Clean(runs=len(experiments) * (SEEDS + 1), said=tuple(said))


PARTS = 2


def in_parts(seed: int, on_event: Callable[[Event], None]) -> list[SelftestOutcome]:
    """Try everything; returns what each part found."""
    with ThreadPoolExecutor(PARTS) as pool:
        asked = [pool.submit(_ask, part, seed, on_event) for part in range(PARTS)]
        return [future.result() for future in asked]


def _ask(part: int, seed: int, on_event: Callable[[Event], None]) -> SelftestOutcome:
    cores = usable_cores()
    if hasattr(os, "sched_setaffinity"):  # of this thread alone; its worker inherits it
        os.sched_setaffinity(0, {cores[part % len(cores)]})
    return ask(run, {"seed": seed, "part": part, "parts": PARTS}, SelftestOutcome, cores=1, on_event=on_event)
