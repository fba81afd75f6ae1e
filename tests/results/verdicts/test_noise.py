"""What a scatter of pairs can resolve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.storage.comparison import LOOKS, Comparison, SideFacts
from results.storage.rows import PairRow
from results.verdicts.estimate import detectable, estimate
from results.verdicts.noise import pairs_needed, resolution, sentences
from results.verdicts.pair_findings import log_ratio, mean_log_ratio, throughput_finding
from tests.results.pairs import pair


def aa(spread: float) -> Comparison:
    draw = np.random.default_rng(3)
    pairs = [pair(math.exp(spread * value)) for value in draw.standard_normal(LOOKS[-1])]
    side = SideFacts(name="A", text="here")
    finding = throughput_finding(pairs, 1e-9)  # a margin that nothing is within: all looks are taken
    return Comparison(label="a case", sides=(side, side), findings=(finding,), name="1", verdict="inconclusive")


def test_more_pairs_and_less_scatter_see_smaller_changes() -> None:
    quiet, loud = resolution(aa(0.01)), resolution(aa(0.04))
    assert quiet.pair_error == pytest.approx(loud.pair_error / 4, rel=0.01)
    assert quiet.visible[10] > quiet.visible[15] > quiet.visible[20]
    assert quiet.visible[20] < loud.visible[20]
    assert "+3 % needs" in sentences(quiet)[1]


def test_the_pairs_that_are_needed_are_the_fewest_that_see_the_change() -> None:
    for error in (0.02, 0.05):
        fewest = pairs_needed(error, 0.05)
        assert fewest is not None
        assert pairs_needed(error, 0.051) <= fewest
    assert pairs_needed(10.0, 0.03) is None


@pytest.mark.parametrize("dispatched", [False, True])
def test_a_pair_cancels_a_steady_drift_and_a_burst_in_one_turn(dispatched: bool) -> None:
    for order in ("ABBA", "BAAB"):
        drifting = pair(1.1, order=order, drift=0.05, dispatched=dispatched)
        assert _ratio(drifting) == pytest.approx(math.log(1.1), abs=2e-3)
    burst = pair(1.1, burst=(3, 2.0), dispatched=dispatched)  # one turn of the first quad took twice as long
    assert _ratio(burst) == pytest.approx(math.log(1.1), abs=1e-4)


def test_the_mean_shows_a_stall_that_the_median_does_not_see() -> None:
    stalled = pair(1.0, burst=(1, 3.0))
    assert _ratio(stalled) == 0.0
    assert mean_log_ratio(stalled.a, stalled.b) == pytest.approx(math.log(8 / 6), abs=1e-6)


def test_turns_that_make_no_whole_quads_are_no_pair() -> None:
    with pytest.raises(ValueError, match="are not whole ABBA quads"):
        _ratio(pair(1.1, turns=10))


def test_the_smallest_visible_change_is_no_smaller_than_the_margin() -> None:
    found = estimate([0.001 * n for n in range(-5, 5)])
    assert detectable(found, 0.05) > 0.05
    assert detectable(found, 0.10) > detectable(found, 0.05)


def _ratio(row: PairRow) -> float:
    return log_ratio(row.order, row.a, row.b)
