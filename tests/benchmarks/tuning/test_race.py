"""A race of settings with known speeds, on a simulated machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.tuning.race import LEAST, PLAIN, Race

TRIALS, SETTINGS, PAIRS = 100, 24, 60
"""Sixty pairs of processes are ten minutes."""


def run(true: dict[str, float], sd: float, draw: np.random.Generator, pairs: int = PAIRS) -> tuple[Race, int]:
    race, used = Race(list(true)), 0
    while used < pairs and (name := race.next()) is not None:
        race.add(name, true[name] + float(draw.normal(0, sd)))
        used += 1
    return race, used


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_the_best_of_24_settings_or_one_within_3_percent_is_found(sd: float, spread: float) -> None:
    draw = np.random.default_rng(int(1000 * (sd + spread)))
    found = 0
    for _ in range(TRIALS):
        true = {f"setting {n}": float(value) for n, value in enumerate(draw.normal(0, spread, SETTINGS))}
        race, _ = run(true, sd, draw)
        best = min([0.0, *true.values()])
        found += true.get(race.leader(), 0.0) - best <= math.log(1.03)
    assert found >= 95


def test_settings_that_cannot_win_are_not_measured_again() -> None:
    draw = np.random.default_rng(0)
    true = {"fast": -0.5, **{f"slow {n}": 0.1 * n for n in range(10)}}
    race, used = run(true, 0.01, draw)
    assert race.leader() == "fast"
    assert used <= len(true) + LEAST
    assert all(one.dropped for one in race.standings() if one.name != "fast")


def test_where_nothing_is_faster_the_plain_settings_win() -> None:
    race, used = run({"slower": 0.2, "much slower": 0.6}, 0.02, np.random.default_rng(0))
    assert race.leader() == PLAIN
    assert used < 10


def test_the_interval_of_the_speed_up_holds_the_truth() -> None:
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        race, _ = run({"fast": -0.3}, 0.02, draw)
        (one,) = race.standings()
        held += one.low <= -0.3 <= one.high
    assert held >= 0.93 * 400


def test_a_dropped_setting_is_neither_measured_nor_leader() -> None:
    race = Race(["a", "b"])
    race.add("a", -1.0)
    race.drop("a")
    assert race.leader() == PLAIN
    assert race.next() == "b"
    assert [one.name for one in race.standings()] == []


def test_a_race_without_settings_is_over() -> None:
    assert Race([]).next() is None
    assert Race([]).standings() == []
