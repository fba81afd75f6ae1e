"""The first bad one is found although measurements lie, and what cannot be built is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from results.verdicts.search import search, simulate

STEP = math.log1p(0.05)


def test_a_step_among_sixty_four_is_found_nine_times_out_of_ten_in_few_measurements() -> None:
    trials = 40
    found = simulate(trials, seed=7)
    assert stats.binom.cdf(round(found.right * trials), trials, 0.9) > 1e-3
    assert found.mean_measurements < 25


@pytest.mark.parametrize("first_bad", [1, 2, 7, 14, 15])
def test_exact_measurements_find_every_place_with_few_of_them(first_bad: int) -> None:
    answer = search(16, lambda place: STEP if place >= first_bad else 0.0, margin=math.log1p(0.03))
    assert answer.first_bad == first_bad
    assert answer.probability >= 0.95
    assert answer.measurements <= 12
    assert answer.step == pytest.approx(STEP)


@pytest.mark.parametrize("step", [0.1, 1.0, 9.0])
def test_a_larger_step_takes_no_more_measurements_than_a_small_one(step: float) -> None:
    found = simulate(10, step=step, seed=3)
    assert found.right == 1.0
    assert found.most_measurements <= 12


def test_nothing_bad_is_an_answer_too() -> None:
    draw = np.random.default_rng(2)
    answer = search(16, lambda place: 0.01 * draw.standard_normal(), margin=math.log1p(0.03))
    assert answer.first_bad is None
    assert answer.probability >= 0.95


def test_candidates_that_cannot_be_built_are_left_out_and_the_next_one_stands_for_them() -> None:
    broken = {7, 8, 9}

    def measure(place: int) -> float | None:
        return None if place in broken else (STEP if place >= 8 else 0.0)

    answer = search(16, measure, margin=math.log1p(0.03))
    assert answer.first_bad == 10
    assert set(answer.unbuildable) <= broken
    assert search(4, lambda place: None, margin=0.03).measurements == 0


def test_a_budget_ends_a_search_that_is_not_sure() -> None:
    draw = np.random.default_rng(3)
    answer = search(64, lambda place: 0.2 * draw.standard_normal(), margin=math.log1p(0.03), most=5)
    assert answer.measurements == 5
    assert answer.probability < 0.95
    assert sum(answer.posterior) == pytest.approx(1.0)
