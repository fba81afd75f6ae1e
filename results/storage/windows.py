"""Steps and seconds of the windows of a record, and the compilation time of a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.clock import Kind
from harness.running.record import StageRecord


def steps_of(stage: StageRecord, kind: Kind) -> Sequence[int]:
    """Return the step times of one kind of window, in microseconds."""
    start = 0
    for window in stage.windows:
        if window.kind == kind:
            return stage.step_us[start : start + window.steps]
        start += window.steps
    return ()


def seconds_of(stages: Sequence[StageRecord], kind: Kind) -> float:
    """Return the total seconds of the windows of one kind; NaN without any.

    Times are added with `fsum`, because `sum` of floats has another last digit from Python 3.12 on.
    """
    windows = [window.seconds for stage in stages for window in stage.windows if window.kind == kind]
    return math.fsum(windows) if windows else math.nan


def compile_s(stage: StageRecord) -> float:
    """Return the seconds of tracing, compilation and autotuning: the first step minus a usual step of the stage.

    A usual step is the mean of the throughput window. The result is at least 0, and 0 without a throughput window.
    """
    windows = {window.kind: window for window in stage.windows}
    if "first" not in windows or "throughput" not in windows:
        return 0.0
    usual = windows["throughput"].seconds / windows["throughput"].steps
    return max(0.0, windows["first"].seconds - usual)


def training_seconds(stage: StageRecord) -> list[float]:
    """Return the training seconds per epoch, with the computation of the kept features that it used first.

    Compilation is subtracted from the first epoch.
    """
    computing = features_seconds(stage)
    seconds = [epoch.seconds + more for epoch, more in zip(stage.epochs, computing, strict=True)]
    return [seconds[0] - compile_s(stage), *seconds[1:]] if seconds else []


def features_seconds(stage: StageRecord) -> list[float]:
    """Return the seconds per epoch to compute the kept features that it used first."""
    if stage.features is None:
        return [0.0] * len(stage.epochs)
    per_view = stage.features.seconds / stage.features.views
    return [per_view * views for views in stage.features.views_of_epoch]


def pays_from(stage: StageRecord) -> int | None:
    """Return the epoch, from 1, after which kept features have saved a pass over an image; None if none was saved."""
    if stage.features is None:
        return None
    images, used = len(stage.step_us) // len(stage.epochs) * stage.windows[0].images // stage.windows[0].steps, 0
    for epoch, views in enumerate(stage.features.views_of_epoch, 1):
        used += views
        if used < epoch * images:
            return epoch
    return None
