"""Statistics against scipy and against what a person works out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results import statistics
from results.statistics import ratio_interval

figures = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=30)


@given(figures)
def test_the_mean_has_scipys_t_interval(values: list[float]) -> None:
    figure = statistics.mean(values)
    # Of values that differ in their last bits alone scipy says that it cannot tell their spread.
    alike = np.ptp(values) <= 1e-9 * max(values)
    expected = (values[0], values[0]) if alike else stats.ttest_1samp(values, 0.0).confidence_interval()
    assert figure.value == pytest.approx(np.mean(values))
    assert (figure.low, figure.high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(1e-3, 1e6), min_size=6, max_size=40))
def test_the_median_of_six_or_more_has_scipys_interval(values: list[float]) -> None:
    figure = statistics.median(values)
    expected = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert (figure.value, figure.low, figure.high) == (np.median(values), expected.low, expected.high)


def test_the_median_of_few_lies_between_the_smallest_and_the_largest() -> None:
    assert statistics.median([4.0, 1.0, 2.0, 3.0, 9.0]) == (3.0, 1.0, 9.0, 5)
    assert statistics.median([4.0, 2.0]) == (3.0, 2.0, 4.0, 2)


def test_one_value_has_no_interval_and_none_no_figure() -> None:
    for summary in (statistics.median, statistics.mean):
        figure = summary([2.0, math.nan])
        assert (figure.value, figure.runs) == (2.0, 1)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)
        assert summary([]).runs == 0


def test_the_median_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).lognormal(size=(2000, 8))
    covered = sum(figure.low <= 1.0 <= figure.high for figure in map(statistics.median, draws))
    assert covered / 2000 > 0.95


def test_a_run_that_never_gets_there_counts_as_later_than_all_others() -> None:
    figure = statistics.median([10.0, 20.0, math.inf])
    assert figure[:2] == (20.0, 10.0)
    assert math.isnan(figure.high)
    assert math.isnan(statistics.median([10.0, math.inf, math.inf]).value)


def test_time_to_a_target_is_training_time_up_to_the_epoch_that_reaches_it() -> None:
    assert statistics.time_to(0.7, [1.0, 2.0, 3.0], [0.1, 0.7, 0.9]) == 3.0
    assert statistics.time_to(0.95, [1.0, 2.0, 3.0], [0.1, 0.7, 0.9]) == math.inf


def test_153_images_cannot_tell_three_and_a_half_points_apart() -> None:
    assert statistics.detectable(0.95, 153) == pytest.approx(0.0345, abs=0.0025)
    assert statistics.detectable(0.75, 500) == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 500), rel=0.01)
    assert statistics.detectable(1.0, 100) > 0
    assert math.isnan(statistics.detectable(0.5, 0))


def test_drift_compares_the_last_third_with_the_first() -> None:
    assert statistics.drift([100] * 10 + [90] * 10 + [80] * 10) == pytest.approx(-0.2)
    assert statistics.drift([100] * 29 + [9000]) == 0.0
    assert statistics.drift([1, 9]) == 0.0


def test_the_interval_of_a_ratio_is_there_without_spread_and_absent_for_one_process() -> None:
    assert ratio_interval([2.0, 2.0], [1.0, 1.0]) == pytest.approx((2.0, 2.0))
    low, high = ratio_interval([2.0, 2.0, 2.0], [1.0, 1.1, 1.05])
    assert low < 2 / 1.05 < high
    assert np.isnan(ratio_interval([2.0], [1.0, 1.1])).all()
    assert np.isnan(ratio_interval([], [])).all()


def test_the_interval_of_a_ratio_holds_the_truth_in_nineteen_of_twenty_experiments() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ours, theirs = np.exp(draw.normal(0.1, 0.05, 4)), np.exp(draw.normal(0.0, 0.02, 6))
        low, high = ratio_interval(ours.tolist(), theirs.tolist())
        held += low < np.exp(0.1) < high
    assert 0.92 < held / 400 < 0.98
