"""Comparisons and A/A tests on the page: verdicts, findings and pairs are those that are stored."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from results.report.write import write_report
from results.storage.comparison import Comparison, Difference, SideFacts
from results.storage.comparison import Purpose as What
from results.storage.rows import Pair
from results.storage.run_files import open_run
from results.verdicts.conclusion import conclude
from results.verdicts.pair_findings import throughput_finding
from tests.results.pairs import pair
from tests.results.records import MACHINE
from tests.results.report.conftest import Open
from tests.results.report.records import EVIL, IMAGES, many
from tests.results.report.test_page import data


def compare(folder: Path, ratio: float, purpose: What = "compare", *, verdict: bool = True) -> list[float]:
    """Store ten pairs, the fourth of them disturbed, and what they came to; returns their ratios."""
    draw, name = np.random.default_rng(3), f"{purpose} {ratio}"
    ratios = [ratio * math.exp(0.01 * value) for value in draw.standard_normal(10)]
    pairs = [pair(own, comparison=name, number=number) for number, own in enumerate(ratios, 1)]
    with open_run(folder, command=("compare",), planned=(), machine=MACHINE, environment={}) as run:
        for one in pairs:
            disturbed = ("5 % of the time was stolen",) if one.number == 4 else ()
            own = Pair(comparison=name, number=one.number, order=one.order, a=one.a, b=one.b, disturbed=disturbed,
                       counts=not disturbed)  # fmt: skip
            run.append_pair(own)
        sides = (SideFacts(name="A", text="rev:HEAD~1", revision="a" * 40), SideFacts(name="B", text=EVIL))
        comparison = Comparison(
            name=name, purpose=purpose, label=f"resnet18 {ratio}", sides=sides, verdict="inconclusive",
            differs=(Difference(field="revision", a="a" * 40, b=EVIL),), findings=(throughput_finding(pairs, 0.03),),
        )  # fmt: skip
        if verdict:
            run.append_verdict(conclude(comparison, confirmed=False))
        run.finish()
    return ratios


def test_verdicts_findings_and_pairs_are_drawn_as_they_are_stored(tmp_path: Path, open_page: Open) -> None:
    slower = compare(tmp_path, 1.08)
    alike = compare(tmp_path, 1.0)
    compare(tmp_path, 1.3, verdict=False)
    compare(tmp_path, 1.0, "noise")
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    words = page.locator("#comparisons").inner_text()
    assert "resnet18 1.08: regression. throughput -7." in words
    assert "resnet18 1.0: no change" in words
    assert "1 of 3 comparisons have no verdict: they were interrupted, or belong to tune or explain." in words
    assert EVIL in page.locator("#comparisons").text_content()
    points = data(page, "comparisons", "pairs")
    expected = sorted(100 * (1 / ratio - 1) for ratio in (*slower, *alike))
    assert sorted(row["change"] for row in points) == pytest.approx(expected, abs=0.01)
    assert [row["place"] for row in points if row["kind"] == "disturbed"] == [4, 4]
    findings = data(page, "comparisons", "findings")
    assert sorted(row["verdict"] for row in findings) == ["no change", "regression"]
    assert "the smallest visible change is 1.2 % with 10 pairs" in page.locator("#noise").inner_text()
    assert page.locator("#table").count() == 0
    assert page.title() == "Fine-tuning: two sides compared"


def test_flips_between_the_arms_of_a_comparison_are_counted_from_their_logits(tmp_path: Path, open_page: Open) -> None:
    record = next(many(seeds=1))
    logits = np.eye(3, dtype=np.float32)[np.arange(IMAGES) % 3]
    worse = np.roll(logits, 1, axis=1)
    worse[:20] = logits[:20]
    with open_run(tmp_path, command=("compare",), planned=(), machine=MACHINE, environment={}) as run:
        for side, said in (("A", logits), ("B", worse)):
            labels, ids = np.arange(IMAGES) % 3, np.arange(IMAGES)
            stored = run.put_arrays({"logits": said, "labels": labels, "ids": ids})
            run.append_of_side(replace(record, logits=stored), "c", "A" if side == "A" else "B")
        run.finish()
    write_report(tmp_path, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    assert page.get_by_label("Case A").locator("option:checked").inner_text().endswith("side A of c")
    said = page.locator("#flips-result").inner_text()
    assert f"Correct predictions for {IMAGES} images: both cases 20, only A {IMAGES - 20}, only B 0, neither 0." in said
    assert page.locator("#answer").count() == 0
