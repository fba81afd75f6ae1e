"""Rules about the figures of a record: a breach of a time rule voids the rates, other breaches mark a figure.

The label of a rule is the code of its mark. A rule finds nothing where the record has no evidence.
"""

from __future__ import annotations

import math

from harness.clock import Kind, plan
from harness.errors import Refused
from harness.rules import ask, rule
from harness.running.record import Record, StageRecord
from results import statistics
from results.storage.windows import steps_of

MEASURED: tuple[Kind, ...] = ("throughput", "latency")
UNFINISHED, UNFINISHED_S = 0.01, 0.01
"""Share of the training time, and seconds, that a device may continue to work after the clock stopped."""
CORES = 1.05
STEP_US = 1.0
"""Largest rounding error of a step time, in microseconds."""
COARSE_US, ENOUGH_STEPS = 10, 8
"""Step times are rounded if all are multiples of this many microseconds; the chance of that is 10^-8."""
CLOCK_SHARE = 0.01


@rule("V34", "times", "compile in window")
def compiled_in_window(record: Record) -> bool:
    """The framework compiled inside the measured window."""
    windows = (window for stage in record.stages for window in stage.windows)
    return any(window.compile_events for window in windows if window.kind in MEASURED)


@rule("V37", "times", "other threads")
def other_threads(record: Record) -> bool:
    """The process used more cores or threads than its case allows."""
    effective = record.effective
    # With an exchange between processes, each device has one of its own, and the sensors are those of the first.
    devices = 1 if effective and "exchange" in effective.settings else record.case.devices
    allowed = record.case.threads * devices + (record.case.workers if record.case.input != "arrays" else 0)
    used = record.sensors.cpu_over_wall if record.sensors else 0.0
    threads = effective.threads if effective else 0
    return used > allowed * CORES or threads > record.case.threads


@rule("V40", "times", "not synchronised")
def not_synchronised(record: Record) -> bool:
    """The device was still working when the clock stopped."""
    trained = math.fsum(epoch.seconds for stage in record.stages for epoch in stage.epochs)
    drained = math.fsum(stage.drained_s for stage in record.stages)
    return drained > max(UNFINISHED * trained, UNFINISHED_S)


@rule("V41", "times", "other steps")
def other_steps(record: Record) -> bool:
    """The window does not hold exactly the steps after warm-up, or its seconds are not those of its steps."""
    return any(_holds_other_steps(stage, record.case.warmup_steps) for stage in record.stages)


@rule("V43", "times", "fetched outside")
def fetched_outside(record: Record) -> bool:
    """Batches were fetched before the window started."""
    return any(stage.seen is not None and stage.seen.drawn_early > 0 for stage in record.stages)


@rule("V43", "times", "evaluated inside")
def evaluated_inside(record: Record) -> bool:
    """The network was evaluated inside the measured window."""
    works = (stage.seen.work for stage in record.stages if stage.seen is not None)
    return any(work is not None and work.inferences for work in works)


@rule("V44", "times", "clock costs")
def clock_costs(record: Record) -> bool:
    """Reading the clock takes over 1 % of the shortest step."""
    steps = [step for stage in record.stages for step in steps_of(stage, "latency")]
    return bool(steps) and record.empty_step_us is not None and record.empty_step_us > CLOCK_SHARE * min(steps)


@rule("V51", "times", "rounded times")
def rounded_times(record: Record) -> bool:
    """Step times were rounded."""
    windows = (steps_of(stage, kind) for stage in record.stages for kind in MEASURED)
    return any(len(steps) >= ENOUGH_STEPS and math.gcd(*steps) >= COARSE_US for steps in windows)


@rule("V41", "mark", "not steady")
def not_steady(record: Record) -> bool:
    """First and last third of the window differ by more than 10 %, so warm-up may be too short."""
    return any(abs(statistics.drift(steps_of(stage, "throughput"))) > statistics.NOISE for stage in record.stages)


@rule("V46", "mark", "best epoch")
def best_epoch(record: Record) -> bool:
    """The weights are those of the epoch with the best validation accuracy."""
    return _kept_best(record) and not on_validation(record)


@rule("V46", "mark", "best epoch on test")
def best_epoch_on_test(record: Record) -> bool:
    """The best epoch was selected on the images that the accuracy is measured on, so the accuracy is too high."""
    return _kept_best(record) and on_validation(record)


def on_validation(record: Record) -> bool:
    """Tell whether the accuracy is that of the validation images."""
    return record.test_is_val or (record.test is None and record.val is not None)


def _kept_best(record: Record) -> bool:
    return any(stage.keep == "best" for stage in record.case.scenario.stages)


@rule("V11", "mark", "norm not converged")
def norm_lags(record: Record) -> bool:
    """Batch-norm statistics were updated in fewer than 3 / momentum steps and have not converged.

    After n steps with momentum m the old statistics have a weight of (1 - m)^n, about exp(-n m): 5 % at n = 3 / m.
    """
    plans = zip(record.stages, record.case.scenario.stages, strict=False)
    return 0 < sum(stage.norm_steps * plan.bn_momentum for stage, plan in plans) < 3


TIME_RULES = (
    compiled_in_window, other_threads, not_synchronised, other_steps, fetched_outside, evaluated_inside, clock_costs,
    rounded_times,
)  # fmt: skip
MARK_RULES = (not_steady, best_epoch, best_epoch_on_test, norm_lags)


def voided(record: Record) -> list[str]:
    """Return the codes of the marks that void the rates of a record."""
    return [breach.text for breach in ask(TIME_RULES, record)]


def _holds_other_steps(stage: StageRecord, warmup_steps: int) -> bool:
    try:
        expected = plan(len(stage.step_us), warmup_steps)
    except Refused:
        return True
    if {window.kind: window.steps for window in stage.windows} != {k: n for k, n in expected.items() if n}:
        return True
    for window in stage.windows:
        if window.tail_s is None:
            continue
        steps = steps_of(stage, window.kind)
        spent = sum(steps) / 1e6 + window.tail_s
        if abs(window.seconds - spent) > STEP_US / 1e6 * (len(steps) + len(stage.epochs)):
            return True
    return False
