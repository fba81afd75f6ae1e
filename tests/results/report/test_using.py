"""Using the page: filters, hovering, the address, printing, small and dark screens, the keyboard, a screen reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from results.report.write import write_report
from tests.results.records import build
from tests.results.report.conftest import Open
from tests.results.report.records import EVIL, QUOTE, store_run

pytestmark = pytest.mark.timeout(120)
BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"
BARS = "#wall figure:not([hidden]) .mark-rect path"


def ticks(page: Page) -> list[str]:
    """Labels of the first throughput chart's horizontal axis."""
    return page.locator("#figures figure").first.locator(".role-axis-label text").all_inner_texts()


def test_a_filter_leaves_out_rows_marks_and_panels_and_the_address_keeps_it(open_page: Open, written: Path) -> None:
    page = open_page(written)
    rows, bars = page.locator("#table tbody tr:visible"), page.locator(BARS)
    before, drawn = rows.count(), bars.count()
    page.locator("#filters summary").click()
    page.get_by_label("keras3", exact=True).uncheck()
    page.get_by_label("mobilenet-v2-0.35", exact=True).uncheck()
    page.locator("#filtered", has_text="active").wait_for()
    assert page.locator("#figures figure:visible").count() == 1
    assert page.locator("#learning figure:visible").count() == 2
    assert rows.count() < before / 2
    assert bars.count() == drawn / 4
    assert "backend=keras3" in page.url
    again = open_page(written, page.url[page.url.index("#") :])
    assert again.locator(BARS).count() == drawn / 4
    assert not again.locator("input[value=keras3]").is_checked()
    again.locator("#filters summary").click()
    again.get_by_role("button", name="Show all").click()
    again.locator("#wall figure:nth-of-type(2) >> visible=true").wait_for()
    assert "backend" not in again.url


def test_another_metric_is_another_scale_and_hovering_shows_the_record(open_page: Open, written: Path) -> None:
    page = open_page(written, "#metric=train_s")
    assert page.get_by_label("Metric").input_value() == "train_s"
    seconds = ticks(page)
    page.get_by_label("Metric").select_option("throughput")
    page.locator("#figures figure").first.locator("text", has_text="300").first.wait_for()
    assert ticks(page) != seconds
    assert "metric" not in page.url
    page.locator("#figures figure").first.locator(".mark-symbol path").nth(2).hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.locator("td", has_text="seed").wait_for()
    words = tooltip.inner_text()
    assert "2026-01-02T03:04:05" in words
    assert "throughput, images/s" in words
    assert "undefined" not in words


def test_it_is_dark_with_the_system_light_if_chosen_and_on_paper_and_unfolded_there(
    open_page: Open, written: Path
) -> None:
    page = open_page(written, dark=True)
    assert page.evaluate(BACKGROUND) == "rgb(22, 23, 27)"
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    assert "theme=light" in page.url
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(BACKGROUND) == "rgb(22, 23, 27)"
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator("#theme").is_visible()
    assert page.locator("#wall table").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_a_small_dark_screen_shows_it_all_without_scrolling_sideways(
    open_page: Open, written: Path, screens: Path
) -> None:
    page = open_page(written, width=360, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    widths = page.evaluate(
        "[...document.querySelectorAll('figure.chart svg')].map((s) => s.getBoundingClientRect().right)"
    )
    assert max(widths) <= 360
    page.screenshot(path=screens / "small-dark.png", full_page=True)
    found = Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()


def test_it_is_used_from_the_keyboard(seen: Page) -> None:
    seen.locator("body").press("Tab")
    assert seen.evaluate("document.activeElement.textContent") == "Skip to the answer"
    for _ in range(3):
        seen.keyboard.press("Tab")
    assert seen.evaluate("document.activeElement.hash") == "#table"
    reached = seen.evaluate("[...document.querySelectorAll('a, button, select, input, summary, [tabindex=\"0\"]')]"
                            ".every((e) => e.tabIndex >= 0)")  # fmt: skip
    assert reached


def test_axe_finds_nothing(seen: Page, screens: Path) -> None:
    seen.screenshot(path=screens / "whole-light.png", full_page=True)
    seen.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    found = Axe().run(seen)
    seen.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = false")
    assert found.violations_count == 0, found.generate_report()


def test_names_from_outside_do_nothing_in_charts_tooltips_and_the_address(tmp_path: Path, open_page: Open) -> None:
    evil = {"model": EVIL, "scenario": QUOTE, "dataset": EVIL}
    store_run(tmp_path, *(build(backend=QUOTE, seed=seed, **evil) for seed in range(2)), build(backend=EVIL, **evil))
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html", f"#metric={QUOTE}&backend={EVIL}&at={EVIL}&theme={QUOTE}")
    assert page.locator("#figures figcaption").inner_text() == EVIL
    assert QUOTE[:10] in page.locator("#figures .role-legend").first.text_content()
    page.locator("#figures .mark-symbol path").first.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.locator("td", has_text="seed").wait_for()
    assert QUOTE in tooltip.inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == f"Fine-tuning on {EVIL}"


def test_points_are_filtered_by_run(tmp_path: Path, open_page: Open) -> None:
    first, _ = (store_run(tmp_path, *(build(seed=seed, step_us=50_000 + seed) for seed in range(3))) for _ in range(2))
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html", f"#run={first.stem}")
    assert page.locator("#figures .mark-symbol.layer_2_marks path").count() == 3
    page.locator("#filters summary").click()
    page.get_by_label(first.stem).check()
    page.locator("#figures .mark-symbol.layer_2_marks path:nth-of-type(6)").wait_for()
    assert "run=" not in page.url
