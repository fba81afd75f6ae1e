"""All sins, in the order of the project's list, then those of kept features."""

from __future__ import annotations

from benchmarks.selftest.sin import Sin
from benchmarks.selftest.sins import data, features, reporting, start, timing, training, work

SINS: tuple[Sin, ...] = (
    timing.no_sync,
    timing.started_early,
    reporting.divided_by_a_mean,
    work.two_forwards,
    work.missing_update,
    data.mean_of_means,
    data.dropped,
    data.fed_twice,
    data.shuffled_labels,
    data.overlapping,
    data.other_augmentation,
    data.other_normalisation,
    training.frozen_weight,
    training.frozen_statistic,
    training.unmoved,
    training.ignored_ratio,
    training.shifted_schedule,
    training.kept_state,
    training.decayed,
    start.other_head,
    start.not_loaded,
    start.in_name_only,
    timing.compiling,
    timing.fetching_outside,
    timing.other_threads,
    work.other_precision,
    work.shrunk,
    timing.evaluating_inside,
    timing.rounding,
    reporting.mean_under_a_spike,
    reporting.pooled_versions,
    reporting.lost_record,
    reporting.silently_skipped,
    reporting.best_of_three,
    features.stale,
    features.other_scaling,
    features.moving_statistics,
    features.dropping,
    features.other_view,
)
