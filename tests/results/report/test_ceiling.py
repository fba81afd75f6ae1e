"""The roofline on the page: passes, line and cases are those of the stored ceiling."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from results.ceilings.stored import write_ceiling
from results.report.page_data import gather
from results.report.sections.ceiling import ceiling_section
from results.report.write import write_report
from tests.harness.ceiling.test_ceiling import BATCH, make_ceiling
from tests.results.ceilings.test_utilisation import SLOW, record
from tests.results.report.conftest import Open
from tests.results.report.test_page import data
from tests.results.tables.test_load import store

LAYERS = tuple(replace(layer, tensor_bytes=400) for layer in make_ceiling().layers)


def test_every_pass_is_a_point_below_the_line_and_a_case_is_below_its_ceiling(tmp_path: Path, open_page: Open) -> None:
    ceiling = make_ceiling(layers=LAYERS)
    write_ceiling(tmp_path, ceiling)
    write_ceiling(tmp_path, make_ceiling(layers=[replace(one, seconds={"forward": 1e3}) for one in LAYERS]))
    store(tmp_path, record(ceiling.step().seconds))
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    points, roof, (case,) = (data(page, "ceiling", name) for name in ("layers", "roof", "cases"))
    assert [(one["layer"], one["pass"]) for one in points] == [(one.layer, one.step) for one in ceiling.rates()]
    assert [one["gflops"] for one in points] == pytest.approx([one.rate / 1e9 for one in ceiling.rates()], rel=1e-5)
    moved = ceiling.bytes_per_second / 1e9
    peak = max(one["gflops"] for one in points)
    assert all(one["gflops"] <= min(peak, moved * one["intensity"]) * (1 + 1e-5) for one in points)
    assert [one["intensity"] for one in roof] == sorted(one["intensity"] for one in roof)
    assert roof[-1]["gflops"] == pytest.approx(peak, rel=1e-5)
    assert case["case"] == "full with pytorch"
    assert case["gflops"] == pytest.approx(ceiling.flops_per_second / SLOW / 1e9, rel=1e-3)
    words = page.locator("#ceiling").inner_text()
    assert "Ceiling of the machine" in words and f"batch {BATCH}" in words


def test_a_ceiling_of_an_earlier_version_has_no_bytes_and_no_roofline(tmp_path: Path) -> None:
    store(tmp_path, record(make_ceiling().step().seconds))
    assert ceiling_section(gather(tmp_path)) is None
    write_ceiling(tmp_path, make_ceiling())
    assert ceiling_section(gather(tmp_path)) is None


def test_a_ceiling_without_a_case_is_drawn_too(tmp_path: Path) -> None:
    write_ceiling(tmp_path, make_ceiling(layers=LAYERS, model="alexnet"))
    store(tmp_path, record(make_ceiling().step().seconds))
    section = ceiling_section(gather(tmp_path))
    assert section is not None
    (chart,) = section.charts
    assert chart.spec["datasets"]["cases"] == []
