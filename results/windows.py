"""What a record's windows hold: their steps and their seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.clock import Kind
from harness.record import StageRecord


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
