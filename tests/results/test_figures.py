"""From one record to its figures and marks."""

from __future__ import annotations

import math

import pytest

from harness.initial import LoadReport
from results.figures import MARKS, marks, measure
from results.metric import METRICS
from tests.results.records import build


def test_throughput_is_images_over_seconds_of_the_same_window() -> None:
    assert measure(build(step_us=50_000))["throughput"] == pytest.approx(16 / 0.05)


def test_latency_is_of_the_synchronised_steps_alone() -> None:
    figures = measure(build(step_us=50_000))
    assert (figures["latency_ms"], figures["latency_p95_ms"], figures["latency_max_ms"]) == (50.0, 50.001, 50.001)
    assert figures["first_step_s"] == 1.5


def test_training_time_is_the_sum_of_the_epochs_and_memory_is_in_millions_of_bytes() -> None:
    figures = measure(build(curve=(0.1, 0.2, 0.3)))
    assert (figures["epoch_s"], figures["train_s"], figures["total_s"]) == (2.0, 6.0, 12.5)
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
        ("idiom", {"idiom": True}),
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
