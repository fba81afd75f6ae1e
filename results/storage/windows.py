"""What a record's windows hold: their steps, their seconds, and what a stage spent on compiling."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.clock import Kind
from harness.running.record import StageRecord


def steps_of(stage: StageRecord, kind: Kind) -> Sequence[int]:
    """Step times of one kind, in microseconds."""
    start = 0
    for window in stage.windows:
        if window.kind == kind:
            return stage.step_us[start : start + window.steps]
        start += window.steps
    return ()


def seconds_of(stages: Sequence[StageRecord], kind: Kind) -> float:
    """Seconds of the windows of one kind together; NaN where there is none."""
    windows = [window.seconds for stage in stages for window in stage.windows if window.kind == kind]
    return sum(windows) if windows else math.nan


def compile_s(stage: StageRecord) -> float:
    """Seconds of tracing, compiling and autotuning: what the first step took beyond a usual step of the stage.

    Usual is the mean step of the throughput window. Never negative; 0 for a stage that was cut off before that window.
    """
    windows = {window.kind: window for window in stage.windows}
    if "first" not in windows or "throughput" not in windows:
        return 0.0
    usual = windows["throughput"].seconds / windows["throughput"].steps
    return max(0.0, windows["first"].seconds - usual)


def training_seconds(stage: StageRecord) -> list[float]:
    """Seconds of training per epoch; compiling, which is in the first one's, is left out."""
    seconds = [epoch.seconds for epoch in stage.epochs]
    return [seconds[0] - compile_s(stage), *seconds[1:]] if seconds else []
