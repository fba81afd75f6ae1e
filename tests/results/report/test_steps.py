"""Step times of the page, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.report.page_data import gather
from results.report.sections.steps import steps_section
from tests.results.records import build, joined
from tests.results.report.records import store_run


def test_a_step_is_held_against_the_usual_one_of_its_own_stage(tmp_path: Path) -> None:
    store_run(tmp_path, joined(build(step_us=10_000), build(step_us=90_000)))
    strip = steps_section(gather(tmp_path).shown).charts[0]
    steps = strip.spec["datasets"]["steps"]
    assert [step["usual"] for step in steps if step["kind"] == "throughput"] == pytest.approx([1.0] * 60, rel=1e-3)
    assert [step["usual"] for step in steps if step["kind"] == "first"] == pytest.approx([150.0, 1500 / 90], rel=1e-3)
