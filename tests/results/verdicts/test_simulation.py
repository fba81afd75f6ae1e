"""Calibration, made small: verdicts on simulated machines are right as often as the whole simulation says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.pairing.side_record import SideRecord, Turn
from results.verdicts import simulation
from results.verdicts.accuracy_simulation import missed as missed_accuracy
from results.verdicts.accuracy_simulation import simulate_accuracy
from results.verdicts.pair_findings import log_ratio
from results.verdicts.simulation import SETTINGS, NoiseSetting, simulate

FEW = 100
QUIET, SHARED, NOISY = SETTINGS


def plausible(seen: float, share: float) -> bool:
    """Whether that share of `FEW` can come from a true share at least as good, at odds of one in ten thousand."""
    return float(stats.binom.cdf(round(seen * FEW), FEW, share)) > 1e-4


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_no_change_is_hardly_ever_called_one_and_slow_downs_are_found(setting: NoiseSetting) -> None:
    false = {"quiet": 0.01, "shared": 0.02, "noisy": 0.05}[setting.name]
    nothing = simulate(setting, 0.0, FEW, seed=1)
    assert plausible(1 - nothing.regressions - nothing.improvements, 1 - false)
    assert plausible(nothing.covered, 0.94)
    assert plausible(simulate(setting, 0.10, FEW, seed=1).regressions, 0.99)


def test_the_usual_rules_do_worse_on_the_same_machines() -> None:
    cell = simulate(SHARED, 0.0, FEW, seed=1)
    assert cell.pooled > 0.3
    noisy = simulate(NOISY, 0.0, FEW, seed=1)
    assert noisy.threshold > 0.1


def test_a_simulation_is_the_same_each_time() -> None:
    assert simulate(QUIET, 0.05, 10, seed=2) == simulate(QUIET, 0.05, 10, seed=2)


def test_simulated_pairs_are_judged_as_measured_ones() -> None:
    draw = np.random.default_rng(0)
    steps = simulation._turns(SHARED, 0.05, 3, draw)
    expected = simulation._log_ratios(steps)
    for comparison in range(3):
        a, b = (_side(steps[comparison, 0, side]) for side in (0, 1))
        assert log_ratio("ABBA", a, b) == pytest.approx(expected[comparison, 0], abs=1e-4)


def test_steps_have_the_scatter_and_the_correlation_of_their_setting() -> None:
    bare = NOISY._replace(process_sd=0, drift=0, burst=(0, 1, 1), spikes=0, slowed=0)
    logs = np.log(simulation._turns(bare, 0.0, 20, np.random.default_rng(5))).reshape(20, 20, 2, -1)
    assert logs.std() == pytest.approx(0.08, rel=0.02)
    assert np.mean(logs[..., 1:] * logs[..., :-1]) / logs.var() == pytest.approx(0.8, abs=0.02)


def test_a_fall_of_two_points_is_found_over_five_seeds_and_none_is_not() -> None:
    assert missed_accuracy(simulate_accuracy(0.5, 0.0, 300, seed=3)) == []
    found = simulate_accuracy(0.5, 2.0, 300, seed=3)
    assert found.regressions > 0.9


def _side(turns: np.ndarray) -> SideRecord:
    """Steps of a unit are taken as 100 ms, so that whole microseconds round nothing away."""
    made = [
        Turn(
            steps=len(steps),
            images=len(steps),
            seconds=float(steps.sum()) / 10,
            lead_us=1,
            step_us=tuple(round(1e5 * step) for step in steps),
        )
        for steps in turns
    ]
    return SideRecord(case=None, key="", version="", status="ok", turns=tuple(made))  # type: ignore[arg-type]


def test_a_true_change_is_what_the_medians_differ_by() -> None:
    bare = QUIET._replace(process_sd=0, step_sd=0, drift=0, spikes=0)
    ratios = simulation._log_ratios(simulation._turns(bare, 0.05, 2, np.random.default_rng(0)))
    assert ratios == pytest.approx(math.log(1.05))
