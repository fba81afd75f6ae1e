"""Rules about time: whether what a record says of it can be believed. Where one speaks, its rates are void.

Each takes a record and says whether something is wrong. What the record has no evidence for is not held against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from harness.clock import Kind, plan
from harness.errors import Refused
from harness.running.record import Record, StageRecord
from results import statistics
from results.storage.windows import steps_of

MEASURED: tuple[Kind, ...] = ("throughput", "latency")
UNFINISHED, UNFINISHED_S = 0.01, 0.01
"""Share of the trained time, and seconds, that a device may go on working after it said that it was done."""
CORES = 1.05
STEP_US = 1.0
"""What rounding may make of a step's time."""
COARSE_US, ENOUGH_STEPS = 10, 8
"""Step times that all are multiples of so many microseconds are rounded: by chance, one window in 10^8 is."""
CLOCK_SHARE = 0.01


def v34_compiled_in_window(record: Record) -> bool:
    """Something was traced or compiled while time was taken."""
    windows = (window for stage in record.stages for window in stage.windows)
    return any(window.compile_events for window in windows if window.kind in MEASURED)


def v37_other_threads(record: Record) -> bool:
    """More cores were busy, or more threads set, than the case has threads; a feed of its own may have some too."""
    allowed = record.case.threads + (record.case.workers if record.case.input != "arrays" else 0)
    used = record.sensors.cpu_over_wall if record.sensors else 0.0
    said = record.effective.threads if record.effective else 0
    return used > allowed * CORES or said > record.case.threads


def v40_clock_stopped_early(record: Record) -> bool:
    """The device still worked when it said that it was done."""
    trained = sum(epoch.seconds for stage in record.stages for epoch in stage.epochs)
    drained = sum(stage.drained_s for stage in record.stages)
    return drained > max(UNFINISHED * trained, UNFINISHED_S)


def v41_window_holds_other_steps(record: Record) -> bool:
    """A window is not made of the steps that the case's warm-up leaves to it, or its seconds are not theirs."""
    return any(_holds_other_steps(stage, record.case.warmup_steps) for stage in record.stages)


def v43_fetched_outside(record: Record) -> bool:
    """Batches were drawn before the window opened, so that fetching them is not in it."""
    return any(stage.seen is not None and stage.seen.drawn_early > 0 for stage in record.stages)


def v43_evaluated_inside(record: Record) -> bool:
    """Something was predicted while time was taken for training."""
    works = (stage.seen.work for stage in record.stages if stage.seen is not None)
    return any(work is not None and work.inferences for work in works)


def v44_clock_costs(record: Record) -> bool:
    """The harness's own step costs more than a hundredth of the shortest real one."""
    steps = [step for stage in record.stages for step in steps_of(stage, "latency")]
    return bool(steps) and record.empty_step_us is not None and record.empty_step_us > CLOCK_SHARE * min(steps)


def v51_rounded(record: Record) -> bool:
    """Step times are coarser than the microseconds in which they are kept."""
    windows = (steps_of(stage, kind) for stage in record.stages for kind in MEASURED)
    return any(len(steps) >= ENOUGH_STEPS and math.gcd(*steps) >= COARSE_US for steps in windows)


def v41_not_steady(record: Record) -> bool:
    """First and last third of a window differ by more than noise allows; the rates are marked, not void."""
    return any(abs(statistics.drift(steps_of(stage, "throughput"))) > statistics.NOISE for stage in record.stages)


TIME_RULES: Mapping[str, Callable[[Record], bool]] = MappingProxyType(
    {
        "compile in window": v34_compiled_in_window,
        "other threads": v37_other_threads,
        "not synchronised": v40_clock_stopped_early,
        "other steps": v41_window_holds_other_steps,
        "fetched outside": v43_fetched_outside,
        "evaluated inside": v43_evaluated_inside,
        "clock costs": v44_clock_costs,
        "rounded times": v51_rounded,
    }
)
"""Every rule by the code of its mark (see `results.tables.figures.MARKS`)."""


def voided(record: Record) -> list[str]:
    """Codes of the rules that speak."""
    return [code for code, speaks in TIME_RULES.items() if speaks(record)]


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
