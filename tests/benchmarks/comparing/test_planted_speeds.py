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


def test_a_step_that_is_slower_after_a_wait_is_so_on_both_sides() -> None:
    draw = np.random.default_rng(2)

    def step_s(delay: float, rest: float) -> float:
        cores = [Core(draw, neighbours=0, cold_ns=0.05 * 3 * MS) for _ in range(40)]
        sides = [side(core, draw, 3 * MS, delay, turn_s=0.2, rest=rest) for core in cores]
        return float(np.mean([turn.seconds / turn.steps for one in sides for turn in one.turns]))

    slowed = step_s(0.08, 0.0)
    assert slowed / step_s(0.0, 0.08) == pytest.approx(1.08, abs=0.01)
    assert slowed / step_s(0.0, 0.0) > 1.12


def _held(neighbours: int, comparisons: int) -> float:
    """The share of comparisons whose interval holds the delay, over all delays."""
    held = 0
    for delay in DELAYS:
        for comparison in range(comparisons):
            draw = np.random.default_rng([comparison, neighbours, round(1000 * delay)])
            # From half a time slice to two: where the median of steps that are cut up jumps.
            step_ns = MS * draw.uniform(2.0, 8.0)
            pairs = []
            for _ in range(PAIRS):
                cores = [Core(draw, neighbours, cold_ns=0.01 * step_ns) for _ in "AB"]
                a = side(cores[0], draw, step_ns, 0.0, TURN_S, rest=delay)
                b = side(cores[1], draw, step_ns, delay, TURN_S)
                pairs.append(log_ratio("ABBA", a, b))
            found = decide(pairs, margin=0.03).estimate
            held += found.low <= math.log1p(delay) <= found.high
    return held / comparisons / len(DELAYS)
