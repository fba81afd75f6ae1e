"""The history on the page: every run's figure, what began, what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

import results
from results.report.write import write_report
from results.verdicts.history import LEAST, RECENT, history
from tests.results.report.conftest import Open
from tests.results.report.test_page import data
from tests.results.verdicts.test_history import levels, runs


def test_runs_changes_and_environments_are_those_of_the_history(tmp_path: Path, open_page: Open) -> None:
    first = LEAST + 2 * RECENT + 1
    runs(tmp_path, *levels((LEAST + RECENT, 1.0), (RECENT + 1, 0.8), sd=0.005), versions={"torch": "2.14"})
    runs(tmp_path, *levels((3, 0.8), sd=0.005), versions={"torch": "2.15"}, first=first)
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    drawn = [row for row in data(page, "history", "runs") if row["metric"] == "throughput"]
    (series,) = (one for one in history(results.load(tmp_path)) if one.metric == "throughput")
    points = [point for segment in series.segments for point in segment.points]
    assert [row["value"] for row in drawn] == pytest.approx([point.value for point in points], rel=1e-5)
    (change,) = series.segments[0].changes
    assert [(row["run"], row["kind"]) for row in drawn if row.get("kind")] == [(change.run, "worse")]
    assert [row["began"] for row in drawn if row.get("began")] == ["torch 2.14 → 2.15"]
    assert page.locator("#history figure svg").count() == 1
    assert f"{100 * change.change:+.1f} % from {change.started[:10]}, worse" in page.locator("#history").text_content()


def test_one_run_has_no_history(tmp_path: Path) -> None:
    runs(tmp_path, 100.0)
    write_report(tmp_path, tmp_path / "report.html")
    assert 'id="history"' not in (tmp_path / "report.html").read_text()
