"""Scaling on the page: points and intervals are those of the stored pairs, and device norm is marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.spec import Case
from results.certificates.certificate import NO_CERTIFICATES, read_certificates, write_certificate
from results.report.sections.compared.scaling import scaling_section
from results.report.write import write_report
from results.storage.comparison import Comparison, SideFacts
from results.storage.rows import Pair
from results.storage.run_files import open_run
from results.verdicts.pair_findings import throughput_finding
from results.verdicts.stored_comparisons import read_comparisons
from tests.results.certificates.test_certificate import certificate
from tests.results.pairs import pair
from tests.results.records import MACHINE, build
from tests.results.report.conftest import Open
from tests.results.report.test_page import data


def store(folder: Path, name: str, ratio: float, *, devices: int = 2, batch: int | None = None, **fields: Any) -> None:
    """Ten pairs of one device and of several."""

    def several(case: Case) -> Case:
        (stage,) = case.scenario.stages
        stages = (replace(stage, batch_size=batch or stage.batch_size),)
        scenario = replace(case.scenario, stages=stages)
        return replace(case, devices=devices, scenario=scenario, **fields)

    rows = [pair(ratio * (1 + 0.002 * (n % 3)), comparison=name, number=n) for n in range(1, 11)]
    pairs = [
        Pair(comparison=name, number=row.number, order=row.order, a=row.a, b=replace(row.b, case=several(row.b.case)))
        for row in rows
    ]
    with open_run(folder, command=("scaling",), planned=(), machine=MACHINE, environment={}) as run:
        for one in pairs:
            run.append_pair(one)
        sides = SideFacts(name="A", text="here"), SideFacts(name="B", text="here")
        findings = (throughput_finding(pairs, 0.05),)
        run.append_verdict(
            Comparison(name=name, purpose="scaling", label=name, sides=sides, verdict="inconclusive", findings=findings)
        )
        run.finish()


def test_each_kind_has_its_baseline_and_a_point_per_number_of_devices(tmp_path: Path, open_page: Open) -> None:
    store(tmp_path, "strong 2", 0.625)
    store(tmp_path, "strong 4", 0.4, devices=4)
    store(tmp_path, "weak 2", 0.5, batch=32)
    for devices in (2, 4):
        proof = certificate(build(), build(), accelerated={"devices": devices})
        write_certificate(tmp_path, proof, str(devices))
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    points = data(page, "scaling", "gains")
    assert [(one["kind"], one["devices"], one["batch"]) for one in points] == [
        ("strong", "1", "16"), ("strong", "2", "16"), ("strong", "4", "16"), ("weak", "1", "16"), ("weak", "2", "32"),
    ]  # fmt: skip
    assert [one["speedup"] for one in points] == pytest.approx([1, 1.6, 2.5, 1, 2], rel=0.01)
    assert all(one["low"] < one["speedup"] < one["high"] for one in points if one["factor"] > 1)
    assert [one["speedup"] for one in data(page, "scaling", "proportional")] == [1, 4]
    words = page.locator("#scaling").inner_text()
    assert "Further devices" in words and "1 → 4" in words
    assert page.locator("#comparisons").count() == 0


def test_norm_over_each_device_has_a_chart_of_its_own_that_says_so(tmp_path: Path) -> None:
    store(tmp_path, "strong 2", 0.625)
    store(tmp_path, "device norm", 0.55, norm_scope="device")
    write_certificate(tmp_path, certificate(build(), build(), accelerated={"devices": 2}), "2")
    section = scaling_section(read_comparisons(tmp_path), read_certificates(tmp_path))
    assert section is not None
    assert [chart.title.endswith("norm over each device: another training") for chart in section.charts] == [
        False,
        True,
    ]
    assert len(section.grids[0].rows) == 2


def test_without_a_certificate_strong_scaling_has_no_speed_up_on_the_page_either(tmp_path: Path) -> None:
    store(tmp_path, "strong 2", 0.625)
    store(tmp_path, "weak 2", 0.5, batch=32)
    section = scaling_section(read_comparisons(tmp_path), NO_CERTIFICATES)
    assert section is not None
    strong, weak = (row.cells for row in section.grids[0].rows)
    assert any("no certificate: finetune-bench certify" in cell for cell in strong)
    assert not any("×" in cell for cell in strong) and any("× 2.0" in cell for cell in weak)


def test_other_comparisons_have_no_section() -> None:
    assert scaling_section((), NO_CERTIFICATES) is None
