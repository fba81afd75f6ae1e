"""From one record to its figures and marks."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from harness.running.initial_weights import LoadReport
from results.storage.windows import compile_s, seconds_of, training_seconds
from results.tables.columns import METRICS
from results.tables.figures import MARKS, marks, measure
from tests.results.records import build, joined


def test_throughput_is_images_over_seconds_of_the_same_window() -> None:
    assert measure(build(step_us=50_000))["throughput"] == pytest.approx(16 / 0.05)


def test_latency_is_of_the_synchronised_steps_alone() -> None:
    figures = measure(build(step_us=50_000))
    assert (figures["latency_ms"], figures["latency_p95_ms"], figures["latency_max_ms"]) == (50.0, 50.001, 50.001)
    assert figures["first_step_s"] == 1.5


def test_training_time_leaves_out_what_the_first_step_took_beyond_a_usual_one() -> None:
    figures = measure(build(curve=(0.1, 0.2, 0.3)))  # epochs of 2 s, a first step of 1.5 s, the others of 50 ms
    assert figures["compile_s"] == pytest.approx(1.45)
    assert figures["train_s"] == pytest.approx(6.0 - 1.45)
    assert figures["epoch_seconds"] == pytest.approx([0.55, 2.0, 2.0])
    assert (figures["epoch_s"], figures["total_s"]) == (2.0, 12.5)


def test_every_stage_compiles_in_its_own_first_epoch() -> None:
    figures = measure(joined(build(curve=(0.1, 0.2), step_us=10_000), build(curve=(0.3, 0.4), step_us=90_000)))
    assert figures["compile_s"] == pytest.approx(1.49 + 1.41)
    assert figures["epoch_seconds"] == pytest.approx([0.51, 2.0, 0.59, 2.0])
    assert figures["train_s"] == pytest.approx(8.0 - 1.49 - 1.41)


def test_a_first_step_that_is_no_slower_than_the_others_is_not_taken_off() -> None:
    (stage,) = build(step_us=1_600_000).stages
    assert compile_s(stage) == 0.0
    assert training_seconds(stage) == [2.0, 2.0]


def test_a_stage_without_a_throughput_window_has_no_usual_step() -> None:
    (stage,) = build().stages
    alone = replace(stage, windows=stage.windows[:1])
    assert (compile_s(alone), training_seconds(alone)) == (0.0, [2.0, 2.0])


def test_a_sum_of_times_is_rounded_once_on_every_version_of_python() -> None:
    tenths = build(curve=(0.5,) * 10)
    epochs = tuple(replace(epoch, seconds=0.1) for epoch in tenths.stages[0].epochs)
    window = next(window for window in tenths.stages[0].windows if window.kind == "throughput")
    (stage,) = (replace(one, epochs=epochs, windows=(replace(window, seconds=0.1),) * 10) for one in tenths.stages)
    assert seconds_of([stage], "throughput") == 1.0
    assert measure(replace(tenths, stages=(stage,)))["train_s"] == 1.0  # `sum` gives 0.9999999999999999 before 3.12


def test_no_median_is_over_unlike_stages() -> None:
    slow = build(curve=(0.3, 0.4, 0.5), step_us=90_000)
    last = replace(slow.stages[0], epochs=tuple(replace(epoch, seconds=7.0) for epoch in slow.stages[0].epochs))
    figures = measure(joined(build(curve=(0.1,) * 8, step_us=10_000), replace(slow, stages=(last,))))
    assert figures["epoch_s"] == 7.0
    assert figures["latency_ms"] == 90.0
    assert (figures["latency_p95_ms"], figures["latency_max_ms"]) == (90.001, 90.001)


def test_memory_is_in_millions_of_bytes() -> None:
    figures = measure(build())
    assert figures["peak_memory_mb"] == figures["process_memory_mb"] == 812.0
    assert measure(build(device_peak=2_000_000))["peak_memory_mb"] == 2.0


def test_compiling_inside_the_window_voids_it() -> None:
    record = build(compile_events=1)
    assert math.isnan(measure(record)["throughput"])
    assert "compile in window" in marks(record)


def test_a_record_without_stages_has_no_figures_and_no_marks() -> None:
    figures = measure(build(status="skipped", reason="no CUDA"))
    assert figures["marks"] == []
    assert all(math.isnan(figures[name]) for name in ("throughput", "accuracy", "train_s", "peak_memory_mb"))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("short window", {"steps": 20}),
        ("best epoch", {"stage": {"keep": "best"}}),
        ("best epoch on test", {"stage": {"keep": "best"}, "test_is_val": True}),
        ("validation images", {"test_is_val": True}),
        ("norm not converged", {"norm_steps": 29}),
        ("checkpoint incomplete", {"load": LoadReport(loaded=("a",), missing=("b",))}),
        ("native defaults", {"idiom": True}),
        ("native defaults", {"optimizer_rule": "own"}),
    ],
)
def test_what_must_be_known_is_marked(code: str, changes: dict[str, object]) -> None:
    assert code in marks(build(**changes))
    assert marks(build()) == []


def test_statistics_that_never_moved_or_moved_long_enough_are_not_marked() -> None:
    for steps in (0, 30, 3000):
        assert marks(build(norm_steps=steps)) == []
    assert marks(build(norm_steps=299, stage={"bn_momentum": 0.01})) == ["norm not converged"]


def test_every_mark_stands_at_a_metric() -> None:
    assert {mark.metric for mark in MARKS.values()} <= set(METRICS)
