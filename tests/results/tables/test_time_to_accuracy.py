"""Time to a target with runs that never reach it, and who leads when."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import results
from harness.running.record import Record
from results.tables.time_to_accuracy import leads, sentence, sentences, time_to_target
from tests.benchmarks.commanding import invoke
from tests.results.records import build
from tests.results.tables.test_load import store


def curve(*accuracies: float) -> tuple[float, ...]:
    return accuracies


def test_runs_that_never_reach_the_target_count_as_later_than_they_ended() -> None:
    seconds = [[10.0, 10.0, 10.0]] * 4
    found = time_to_target(0.7, seconds, [[0.5, 0.8, 0.8], [0.6, 0.6, 0.7], [0.1, 0.2, 0.3], [0.5, 0.6, 0.69]])
    assert (found.reached, found.runs) == (2, 4)
    assert found.seconds == 30.0
    assert found.low <= found.seconds <= found.high
    nobody = time_to_target(0.9, seconds, [[0.5] * 3] * 4)
    assert (nobody.seconds, nobody.reached) == (math.inf, 0)


def test_a_censored_run_makes_the_median_later_and_is_not_dropped() -> None:
    seconds = [[10.0] * 5] * 5
    early = [[0.0, 0.0, 0.8, 0.8, 0.8], [0.0, 0.0, 0.8, 0.8, 0.8], [0.0, 0.0, 0.0, 0.8, 0.8]]
    never = [[0.0] * 5] * 2
    assert time_to_target(0.7, seconds[:3], early).seconds == 30.0
    assert time_to_target(0.7, seconds, [*early, *never]).seconds == 40.0


def race(seeds: int, spread: float = 0.0) -> list[Record]:
    draw = np.random.default_rng(0)
    made = []
    for seed in range(seeds):
        luck = spread * draw.standard_normal()
        made.append(
            build(scenario="freeze-conv", seed=seed, curve=curve(0.6, 0.7 + luck, 0.7 + luck, 0.7 + luck, 0.7 + luck))
        )
        made.append(build(scenario="two-stage", seed=seed, curve=curve(0.3, 0.4, 0.65, 0.8 + luck, 0.9)))
    return made


def loaded(folder: Path, records: list[Record]) -> pd.DataFrame:
    store(folder, *records)
    return results.load(folder)


def test_the_lead_changes_hands_where_the_curves_cross(tmp_path: Path) -> None:
    found = leads(loaded(tmp_path, race(3)))
    assert [lead.scenario for lead in found] == ["freeze-conv", "two-stage"]
    assert found[1].start == pytest.approx(6.55, abs=0.1)  # the end of its fourth epoch of 2 s, 1.45 s of it compiling
    assert found[1].half == 0.0
    assert (
        sentence(found)
        == "freeze-conv has the highest validation accuracy first, two-stage from 6.58 ± 0.00 s of training"
    )


def test_scatter_over_seeds_widens_the_moment(tmp_path: Path) -> None:
    records = race(5)
    slow = [build(scenario="two-stage", seed=s, curve=curve(0.3, 0.4, 0.5, 0.6, 0.9)) for s in (5, 6)]
    found = leads(loaded(tmp_path, [*records, *slow]))
    assert found[-1].scenario == "two-stage"
    assert found[-1].half > 0


def test_nobody_leads_before_the_first_epoch_has_ended(tmp_path: Path) -> None:
    slow = [build(scenario="scratch", seed=seed, curve=curve(0.1, 0.2)) for seed in range(2)]
    fast = [build(scenario="freeze-conv", seed=seed, curve=curve(0.6, 0.7)) for seed in range(2)]
    (lead,) = leads(loaded(tmp_path, [*slow, *fast]))
    assert (lead.scenario, lead.start) == ("freeze-conv", 0.0)


def test_one_scenario_or_one_seed_is_no_race(tmp_path: Path) -> None:
    assert leads(loaded(tmp_path / "one", race(1))) == []
    assert leads(loaded(tmp_path / "alone", [build(seed=s) for s in range(3)])) == []


def test_the_table_says_who_leads(tmp_path: Path) -> None:
    frame = loaded(tmp_path, race(2))
    (said,) = sentences(frame)
    assert said.startswith(
        "resnet18 · pytorch: freeze-conv has the highest validation accuracy first, two-stage from 6.58"
    )
    assert said.replace(" · ", " · ") in invoke("table", "--results", tmp_path).output.replace("\n", " ")
