"""Explanations on the page: the bars lead from A over every factor to B."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from results.explanations.explanation import FOLDER, Factor, write_explanation
from results.report.sections.compared.explanations import explanations_section
from results.report.write import write_report
from results.storage.merge import merge
from tests.results.explanations.explained import explanation
from tests.results.report.conftest import Open
from tests.results.report.records import EVIL
from tests.results.report.test_comparisons import compare
from tests.results.report.test_page import data


def test_the_bars_lead_from_a_to_b() -> None:  # the data of a chart have six digits
    section = explanations_section([explanation(0.4, -0.1, 0.0, direct=0.35, rest=0.05)])
    assert section is not None
    (chart,) = section.charts
    *factors, rest, whole = chart.spec["datasets"]["steps"]
    assert [bar["name"] for bar in factors] == ["layout: old → new", "fused: old → new", "threads: old → new"]
    assert [bar["kind"] for bar in factors] == ["faster", "slower", "slower"]
    assert factors[0]["begin"] == whole["begin"] == 1.0
    for bar, following in zip(factors, [*factors[1:], rest], strict=True):
        assert bar["end"] == following["begin"]
    assert [rest["end"], whole["end"]] == pytest.approx([math.exp(0.35)] * 2, rel=1e-4)
    for bar in (*factors, rest, whole):
        assert bar["low_end"] < bar["end"] < bar["high_end"]
        assert bar["end"] == pytest.approx(bar["begin"] * bar["times"], rel=1e-4)


def test_without_explanations_there_is_no_section() -> None:
    assert explanations_section(()) is None


def test_the_page_shows_the_latest_first_and_text_stays_text(tmp_path: Path, open_page: Open) -> None:
    compare(tmp_path / "one", 1.0)
    named = explanation(0.1, made="2026-11-29T04:00:00+00:00")
    factor = Factor(name=EVIL, texts=(EVIL, "new"), settings=({}, {}))
    write_explanation(tmp_path / "one", replace(named, factors=(factor,)))
    write_explanation(tmp_path / "one", explanation(0.3))
    merge(tmp_path / "all", [tmp_path / "one"])
    assert len(list((tmp_path / "all" / FOLDER).iterdir())) == 2
    write_report(tmp_path / "all", tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    words = page.locator("#explanations").inner_text()
    assert words.index("× 1.105") < words.index("× 1.350")
    assert EVIL in words
    assert len(data(page, "explanations", "steps")) == 2 * 3
