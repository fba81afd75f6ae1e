"""Plant every sin, check that its rule reports it, and that it passes without the rule. Runs in two workers."""

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
from msgspec.structs import replace

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
"""A file system in memory for hundreds of small temporary files, if the machine has one."""
ROUNDS = 5
"""The largest number of searches for further rules that detect a sin."""


class SinTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One sin in one form. `message` is that of its rule, `also` are other rules that detect it.

    `fault` says what failed; it is empty if the rule works.
    """

    name: str
    rule: str
    magnitude: str
    message: str = ""
    also: tuple[str, ...] = ()
    fault: str = ""


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """The number of runs without a sin, and the messages about them."""

    runs: int
    messages: tuple[str, ...]


class SelftestOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a self-test."""

    trials: tuple[SinTrial, ...]
    clean: Clean
    shown: tuple[NaiveResult, ...] = ()


def run(
    seed: int, part: int, parts: int, report: Callable[[dict[str, Any]], None], clean_runs: int = CLEAN_RUNS
) -> SelftestOutcome:
    """Try one part of the sins and of the clean runs; the last part also shows the naive formulas."""
    with tempfile.TemporaryDirectory(prefix="finetune-bench-", dir=MEMORY if MEMORY.is_dir() else None) as home:
        runner = ExperimentRunner(Path(home))
        trials = []
        for number, sin in list(enumerate(SINS))[part::parts]:
            report({"trying": sin.name})
            trials += [attempt(runner, sin, gross, (seed, number)) for gross in (True, False)]
        report({"trying": "no sin"})
        clean = without_sin(runner, seed, range(part, -(-clean_runs // (SEEDS + 1)), parts))
        shown = show(runner) if part == parts - 1 else []
        return SelftestOutcome(trials=tuple(trials), clean=clean, shown=tuple(shown))


def attempt(runner: ExperimentRunner, sin: Sin, gross: bool, seed: tuple[int, ...]) -> SinTrial:
    """Plant a sin and check that its rule detects it, also as the only rule, and that it passes without rules."""

    def planted() -> Any:
        return sin.plant(SinPlace(gross, np.random.default_rng([*seed, gross])))

    trial = partial(SinTrial, name=sin.name, rule=sin.rule, magnitude="gross" if gross else "subtle")
    experiment = Experiment(sin.setting, planted)
    found = runner.judge(experiment)
    messages = [one for one in found if sin.rule in ids([one])]
    if not messages:
        return trial(fault=f"{sin.rule} does not detect it: {list(map(str, found)) or 'no message'}")
    also: list[str] = []
    for _ in range(ROUNDS):
        left = runner.judge(experiment, [sin.rule, *also])
        more = ids(left) - {sin.rule, *also}
        if not more:
            break
        also += sorted(more)
    fault = f"without {sin.rule} it is still reported: {list(map(str, left))}" if left else ""
    if also and sin.rule not in ids(runner.judge(experiment, also)):
        fault = f"{sin.rule} alone, without {', '.join(also)}, does not detect it"
    return trial(message=str(messages[0]), also=tuple(also), fault=fault)


def ids(problems: Iterable[Breach | str]) -> set[str]:
    """Return the ids of the breaches."""
    return {one.rule for one in problems if isinstance(one, Breach)}


def without_sin(runner: ExperimentRunner, seed: int, experiments: Sequence[int]) -> Clean:
    """Run experiments without a sin, with different scenarios, inputs, heads and seeds."""
    messages: list[str] = []
    for number in experiments:
        draw = np.random.default_rng([seed, number])
        scenario = fixtures.SCENARIOS[number % len(fixtures.SCENARIOS)]
        setting = ExperimentSetting(
            scenario=scenario,
            input="stream" if draw.random() < 0.3 else "arrays",
            head="mlp" if draw.random() < 0.3 else "linear",
            asynchronous=bool(draw.random() < 0.5),
            certified=number < len(fixtures.SCENARIOS),
            seed=SEEDS * (number + 1),
        )
        if setting.input == "arrays" and any(stage.fixed_part != "none" for stage in scenario.stages):
            setting = replace(setting, features="kept" if draw.random() < 0.3 else "live")
        messages += map(str, runner.judge(Experiment(setting)))
    return Clean(runs=len(experiments) * (SEEDS + 1), messages=tuple(messages))


PARTS = 2


def in_parts(seed: int, on_event: Callable[[Event], None]) -> list[SelftestOutcome]:
    """Run the self-test in parts; return the outcome of each."""
    with ThreadPoolExecutor(PARTS) as pool:
        return list(pool.map(lambda part: _ask(part, seed, on_event), range(PARTS)))


def _ask(part: int, seed: int, on_event: Callable[[Event], None]) -> SelftestOutcome:
    cores = usable_cores()
    if hasattr(os, "sched_setaffinity"):  # for this thread and its worker, which inherits it
        os.sched_setaffinity(0, {cores[part % len(cores)]})
    return ask(run, {"seed": seed, "part": part, "parts": PARTS}, SelftestOutcome, cores=1, on_event=on_event)
