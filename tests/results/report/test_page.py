"""The page in a real browser, from disk and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

import results
from tests.results.report.conftest import Open

pytestmark = pytest.mark.timeout(120)


def data(page: Page, section: str, source: str) -> list[dict[str, Any]]:
    """The rows of a named source of all charts of a section, as Vega has them."""
    script = """([section, source]) => [...window.report.views].filter(([id]) => id.startsWith(section + "-"))
        .flatMap(([, view]) => view.data(source)).map((row) => ({...row}))"""
    return list(page.evaluate(script, [section, source]))


def test_the_points_and_intervals_of_the_throughput_are_those_of_the_records(
    open_page: Open, written: Path, stored: Path
) -> None:
    page = open_page(written)
    frame = results.load(stored)
    good = frame[frame["status"] == "ok"]
    assert len(good) == 36
    drawn = data(page, "figures", "processes")
    assert sorted(row["throughput"] for row in drawn) == pytest.approx(sorted(good["throughput"]), rel=1e-5)
    rows = results.table(frame)
    for end in ("", "_low", "_high"):
        expected = rows.loc[rows["status"] == "ok", f"throughput{end}"]
        found = [row[f"throughput{end}"] for row in data(page, "figures", "cases")]
        assert sorted(found) == pytest.approx(sorted(expected), rel=1e-5)


def test_axe_finds_nothing_in_light_and_in_dark(open_page: Open, written: Path) -> None:
    found = Axe().run(open_page(written))
    assert found.violations_count == 0, found.generate_report()
    found = Axe().run(open_page(written, dark=True), options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()


def test_text_from_outside_is_text(open_page: Open, written: Path) -> None:
    page = open_page(written)
    assert page.title() == "Fine-tuning on embedded-target"
    assert page.locator("main img").count() == 0
    assert "onerror=" in page.locator("#table").inner_text()
