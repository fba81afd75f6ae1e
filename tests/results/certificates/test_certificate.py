"""Certificates as files, and what they allow in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from scipy import stats

from benchmarks.cli import main
from harness import PROTOCOL
from harness.running.record import Record
from results.certificates.certificate import (
    Arm,
    Certificate,
    Check,
    essence,
    packages,
    read_certificate,
    read_certificates,
    seal,
    write_certificate,
)
from results.tables.render import render
from results.tables.side_by_side import Ratio, side_by_side, unproved
from tests.results.records import build
from tests.results.tables.test_table import tabulate

KERAS: dict[str, Any] = {"backend": "keras3", "engine": "tensorflow"}


def check(level: int, scenario: str | None = None, *, passed: bool = True) -> Check:
    return Check(level=level, rule="V00", what="", worst=0.0, limit=0.0, passed=passed, scenario=scenario)


def certificate(*records: Record, checks: tuple[Check, ...] | None = None, **changes: Any) -> Certificate:
    case = records[0].case
    one, other = (
        Arm(backend=r.case.backend_name, packages=packages(r.versions), device="cpu", settings={}, digests={})
        for r in records
    )
    made = Certificate(
        model=case.model,
        precision=case.precision,
        layout=case.layout,
        head=case.head,
        compile=case.compile,
        idiom=False,
        checkpoint="weights",
        checkpoint_sha256=case.checkpoint_sha256,
        dataset_sha256="",
        image_sizes=(64,),
        arms=(one, other),
        scenarios={case.scenario.name: essence(case.scenario)},
        batch_sizes={case.scenario.name: tuple(stage.batch_size for stage in case.scenario.stages)},
        checks=checks or (check(0), check(1), check(2), check(3, case.scenario.name)),
        made="2026-01-02T03:04:05+00:00",
        seconds=1.0,
    )
    return seal(replace(made, **changes))


def test_a_level_is_reached_only_if_every_check_up_to_it_passed() -> None:
    one, other = build(), build(**KERAS)
    checks = (check(0), check(1), check(2), check(3, "full"), check(3, "scratch", passed=False), check(4))
    made = certificate(one, other, checks=checks)
    assert (made.level("full"), made.level("scratch"), made.level()) == (4, 2, 2)
    assert certificate(one, other, checks=(check(0, passed=False), check(1))).level() == -1
    assert [c.scenario for c in made.failures()] == ["scratch"]


def test_a_certificate_comes_back_as_it_was_written_and_an_edited_one_is_noticed(tmp_path: Path) -> None:
    made = certificate(build(), build(**KERAS))
    file = write_certificate(tmp_path, made, "k")
    assert read_certificate(file) == made and read_certificates(tmp_path).all[0] == made
    file.write_text(file.read_text().replace('"P', '"Q').replace('"passed": true', '"passed": false', 1))
    assert made.model not in {one.model for one in read_certificates(tmp_path).all}
    assert "was changed after it was written" in read_certificates(tmp_path).problems[0]
    file.write_text("{")
    assert "is not a certificate" in read_certificates(tmp_path).problems[0]
    file.write_bytes(msgspec.json.encode(seal(replace(made, schema=99))))
    assert "has schema 99" in read_certificates(tmp_path).problems[0]
    file.write_text('{"schema": 2, "model": "resnet18"}')  # of a schema that lacks what this one has
    assert "has schema 2" in read_certificates(tmp_path).problems[0]


def test_a_ratio_stands_where_a_certificate_of_level_three_covers_both_rows(tmp_path: Path) -> None:
    records = [build(step_us=50_000), build(step_us=100_000, **KERAS)]
    made = tabulate(tmp_path, *records)
    (line,) = side_by_side(made, "throughput", [certificate(*records)])
    ratio = line.ratios["keras3-tensorflow"]
    assert isinstance(ratio, Ratio) and ratio.level == 3 and ratio.value == pytest.approx(0.5)
    assert unproved(made, [certificate(*records)]) == []


def test_the_interval_of_a_ratio_is_welch_s_on_the_logarithms_of_the_processes_throughputs(tmp_path: Path) -> None:
    ours = [build(seed=seed, step_us=us) for seed, us in enumerate((50_000, 51_000, 52_000))]
    theirs = [build(seed=seed, step_us=us, **KERAS) for seed, us in enumerate((100_000, 101_000, 110_000))]
    (line,) = side_by_side(tabulate(tmp_path, *ours, *theirs), "throughput", [certificate(ours[0], theirs[0])])
    ratio = line.ratios["keras3-tensorflow"]
    assert isinstance(ratio, Ratio)
    logs = [np.log([1 / us for us in side]) for side in ((100_000, 101_000, 110_000), (50_000, 51_000, 52_000))]
    change = logs[0].mean() - logs[1].mean()
    first, second = (float(side.var(ddof=1)) / 3 for side in logs)
    freedom = (first + second) ** 2 / (first**2 / 2 + second**2 / 2)  # Welch and Satterthwaite
    half = stats.t.ppf(0.975, freedom) * (first + second) ** 0.5
    assert ratio.value == pytest.approx(51 / 101)
    assert (ratio.low, ratio.high) == pytest.approx((np.exp(change - half), np.exp(change + half)))
    assert not (ratio.low == pytest.approx(50 / 110) or ratio.high == pytest.approx(52 / 100))


def test_a_ratio_of_single_processes_has_no_interval(tmp_path: Path) -> None:
    ours, theirs = [build(), build(seed=1)], [build(**KERAS)]
    (line,) = side_by_side(tabulate(tmp_path, *ours, *theirs), "throughput", [certificate(ours[0], theirs[0])])
    ratio = line.ratios["keras3-tensorflow"]
    assert isinstance(ratio, Ratio)
    assert ratio.value == pytest.approx(1.0)
    assert np.isnan([ratio.low, ratio.high]).all()


def test_a_void_process_is_not_in_the_interval(tmp_path: Path) -> None:
    ours = [build(step_us=50_000), build(seed=1, step_us=50_000, compile_events=1)]
    theirs = [build(seed=seed, step_us=60_000, **KERAS) for seed in range(2)]
    made = tabulate(tmp_path, *ours, *theirs)
    assert [len(own) for own in made["throughputs"]] == [1, 2]
    (line,) = side_by_side(made, "throughput", [certificate(ours[0], theirs[0])])
    ratio = line.ratios["keras3-tensorflow"]
    assert isinstance(ratio, Ratio)
    assert np.isnan(ratio.low)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"checkpoint_sha256": "e" * 64}, "certificate for another checkpoint"),
        ({"protocol": PROTOCOL + 1}, "certificate for another protocol"),
        ({"scenarios": {"full": "0" * 16}}, "certificate for another recipe"),
        ({"scenarios": {"scratch": "0" * 16}}, "no certificate"),
        ({"precision": "bf16"}, "certificate for another precision"),
        ({"model": "resnet34"}, "no certificate"),
        ({"checks": (check(0), check(1), check(2), check(3, "full", passed=False))}, "P2 only"),
        ({"checks": (check(0, passed=False),)}, "below P0"),
    ],
)
def test_a_certificate_of_something_else_is_not_accepted(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    records = [build(), build(**KERAS)]
    made = tabulate(tmp_path, *records)
    (line,) = side_by_side(made, "throughput", [certificate(*records, **change)])
    assert line.ratios == {"keras3-tensorflow": f"≠ {reason}"}
    assert len(unproved(made, [certificate(*records, **change)])) == 1


def test_a_certificate_of_other_versions_is_not_accepted(tmp_path: Path) -> None:
    records = [build(versions={"torch": "2.1"}), build(versions={"keras": "3.1"}, **KERAS)]
    older = certificate(build(versions={"torch": "2.0"}), records[1])
    (line,) = side_by_side(tabulate(tmp_path, *records), "throughput", [older])
    assert line.ratios == {"keras3-tensorflow": "≠ certificate for other versions"}


def test_from_random_values_the_checkpoint_of_the_certificate_does_not_matter(tmp_path: Path) -> None:
    records = [build(), build(**KERAS)]
    scenario = replace(records[0].case.scenario, start="random")
    random = [replace(r, case=replace(r.case, scenario=scenario, checkpoint_sha256=None)) for r in records]
    proof = certificate(*random, checkpoint_sha256="e" * 64)
    (line,) = side_by_side(tabulate(tmp_path, *random), "throughput", [proof])
    assert isinstance(line.ratios["keras3-tensorflow"], Ratio)


def test_the_table_cites_the_certificate_and_the_command_can_require_it(tmp_path: Path) -> None:
    records = [build(), build(**KERAS)]
    made = tabulate(tmp_path, *records)
    proof = certificate(*records)
    write_certificate(tmp_path, proof, "k")
    text = render(made, certificates=read_certificates(tmp_path)).decode()
    assert "× 1.00" in text and "P3" in text and proof.sha256[:8] in text
    required = ["table", "--results", str(tmp_path), "--require-certificate"]
    assert CliRunner().invoke(main, required).exit_code == 0
    for file in (tmp_path / "certificates").iterdir():
        file.unlink()
    refused = CliRunner().invoke(main, required)
    assert refused.exit_code == 3 and "no certificate" in refused.stderr
