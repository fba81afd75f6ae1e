"""A delay that was planted comes back within its interval, on a quiet core and on one that others want as well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.verdicts.estimate import decide
from results.verdicts.pair_findings import log_ratio
from tests.benchmarks.planted import MS, Core, side

DELAYS = (0.03, 0.08, 0.20)
PAIRS, TURN_S, WANTED = 10, 0.02, 0.95


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_planted_delay_is_inside_the_interval_of_95_comparisons_in_100(neighbours: int) -> None:
    assert _held(neighbours, comparisons=34) >= WANTED


@pytest.mark.long
@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_of_100_comparisons_for_each_delay_95_hold_what_was_planted(neighbours: int) -> None:
    assert _held(neighbours, comparisons=100) >= WANTED


def test_on_a_core_that_others_want_a_delay_costs_its_share_and_not_twice_of_it() -> None:
    draw = np.random.default_rng(1)

    def step_s(delay: float) -> float:
        sides = [side(Core(draw, 1), draw, 3 * MS, delay, turn_s=0.2) for _ in range(20)]
        return float(np.mean([turn.seconds / turn.steps for one in sides for turn in one.turns]))

    plain, slowed = step_s(0.0), step_s(0.08)
    assert slowed / plain == pytest.approx(1.08, abs=0.015)


def _held(neighbours: int, comparisons: int) -> float:
    """The share of comparisons whose interval holds the delay, over all delays."""
    held = 0
    for delay in DELAYS:
        for comparison in range(comparisons):
            draw = np.random.default_rng([comparison, neighbours, round(1000 * delay)])
            # From half a time slice to two: where the median of steps that are cut up jumps.
            step_ns = MS * draw.uniform(2.0, 8.0)
            pairs = (
                [side(Core(draw, neighbours), draw, step_ns, d, TURN_S) for d in (0.0, delay)] for _ in range(PAIRS)
            )
            found = decide([log_ratio("ABBA", *pair) for pair in pairs], margin=0.03).estimate
            held += found.low <= math.log1p(delay) <= found.high
    return held / comparisons / len(DELAYS)
