"""The study beside the tutorial's script: its scenario is that of the harness."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from benchmarks.choosing.scenarios import RECIPES, SCENARIOS, read_scenarios
from benchmarks.studies.tutorial import SCENARIO


def test_first_stage_is_the_first_stage_of_two_stage() -> None:
    (only,) = read_scenarios(Path(SCENARIO["first-stage"]))["first-stage"].stages
    tutorial = SCENARIOS["two-stage"](RECIPES["tutorial"]).stages[0]
    assert only == replace(tutorial, epochs=only.epochs)
