"""Levels that change are told where they changed, and noise is not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import results
from harness.running.record import Record
from results.verdicts.accepted import Acceptance, add_accepted
from results.verdicts.history import LEAST, RECENT, find_changes, history
from tests.benchmarks.commanding import invoke
from tests.results.records import build
from tests.results.tables.test_load import store


def levels(*parts: tuple[int, float], sd: float = 0.02, seed: int = 0) -> list[float]:
    draw = np.random.default_rng(seed)
    return [100 * level * math.exp(sd * draw.standard_normal()) for count, level in parts for _ in range(count)]


def test_noise_alone_is_hardly_ever_called_a_change() -> None:
    alarms = sum(bool(find_changes(levels((60, 1.0), seed=seed), 0.03)) for seed in range(100))
    assert alarms <= 5  # in a hundred series of sixty runs each


def test_a_fall_of_ten_per_cent_is_told_within_a_few_runs_and_placed_where_it_was() -> None:
    places = []
    for seed in range(50):
        found = find_changes(levels((30, 1.0), (8, 0.9), seed=seed), 0.03)
        places += [place for place, change, _ in found if change < 0]
    assert len(places) >= 49
    assert sum(abs(place - 30) <= 1 for place in places) >= 45


def test_a_single_slow_run_is_no_change() -> None:
    values = levels((30, 1.0))
    values[20] = 60.0
    assert find_changes(values, 0.03) == []


def test_a_rise_after_a_fall_is_told_too() -> None:
    found = find_changes(levels((25, 1.0), (25, 0.85), (10, 1.0)), 0.03)
    assert [math.copysign(1, change) for _, change, _ in found] == [-1, 1]


def runs(folder: Path, *rates: float, versions: dict[str, str] | None = None, first: int = 0) -> None:
    for number, rate in enumerate(rates, first):
        moment = f"2026-01-{1 + number // 24:02}T{number % 24:02}:00:00+00:00"
        store(folder, _record(rate, moment, versions))


def _record(rate: float, moment: str, versions: dict[str, str] | None) -> Record:
    return build(step_us=round(16e6 / rate), started=moment, versions=versions)


def test_a_new_environment_begins_a_segment_and_names_the_package(tmp_path: Path) -> None:
    runs(tmp_path, *[100.0] * 3, versions={"torch": "2.14"})
    runs(tmp_path, *[80.0] * 3, versions={"torch": "2.15"}, first=3)
    (series,) = (one for one in history(results.load(tmp_path)) if one.metric == "throughput")
    assert [segment.began for segment in series.segments] == ["first run", "torch 2.14 → 2.15"]
    assert all(segment.changes == () for segment in series.segments)
    assert "more are needed" in series.segments[1].note


def test_versions_that_are_odd_or_unknown_are_named_as_they_are(tmp_path: Path) -> None:
    odd = ({"torch": "2.1"}, {"torch": "2, evil", "new": ""})
    for number, versions in enumerate(odd):
        runs(tmp_path, 100.0, versions=versions, first=number)
    (series,) = (one for one in history(results.load(tmp_path)) if one.metric == "throughput")
    began = [segment.began for segment in series.segments]
    assert began == ["first run", "new none → , torch 2.1 → 2, evil"]


def test_a_change_is_a_warning_and_an_accepted_one_says_so(tmp_path: Path) -> None:
    runs(tmp_path, *levels((LEAST + RECENT, 1.0), (RECENT + 1, 0.8), sd=0.005))
    said = invoke("history", "--results", tmp_path)
    assert said.exit_code == 0
    assert "WORSE" in said.output
    assert "throughput" in said.output
    leave = Acceptance(case="*", metric="throughput", up_to=0.5, reason="exact sums", moment="2026-01-01")
    add_accepted(tmp_path, leave)
    said = invoke("history", "--results", tmp_path)
    assert "accepted: exact sums" in said.output
    assert '"changes"' in invoke("history", "--results", tmp_path, "--format", "json").output


def test_one_acceptance_does_not_excuse_the_next_fall(tmp_path: Path) -> None:
    runs(tmp_path, *levels((20, 1.0), (20, 0.9), (8, 0.8), sd=0.005))
    leave = Acceptance(case="*", metric="throughput", up_to=0.2, reason="exact sums", moment="2026-01-01T20:00:00")
    (series,) = (one for one in history(results.load(tmp_path), [leave]) if one.metric == "throughput")
    assert [change.accepted for change in series.segments[0].changes] == ["exact sums", ""]
    assert all(change.worse for change in series.segments[0].changes)


def test_nothing_to_read_is_3(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert invoke("history", "--results", tmp_path).exit_code == 3


def test_accuracy_is_followed_in_points_over_seeds(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    for number in range(LEAST + 2 * RECENT):
        level = 0.90 if number < LEAST + RECENT else 0.85
        moment = f"2026-02-{1 + number:02}T00:00:00+00:00"
        accuracies = [level + 0.005 * draw.standard_normal() for _ in range(2)]
        store(tmp_path, *(replace(build(seed=s, accuracy=a), started=moment) for s, a in enumerate(accuracies)))
    (series,) = (one for one in history(results.load(tmp_path)) if one.metric == "accuracy")
    (change,) = series.segments[0].changes
    assert change.worse
    assert change.change == pytest.approx(-5, abs=1)
    assert series.segments[0].points[0].processes == 2
