"""The page in a real browser, from disk and without a network: what it shows is what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page

import results
from harness.running.record import Record
from results import statistics
from results.storage.objects import get_arrays
from results.storage.rows import record_at
from tests.results.report.records import CLASSES, EVIL, IMAGES, QUOTE

pytestmark = pytest.mark.timeout(120)
SECTIONS = {
    "figures": 2, "accuracy": 3, "target": 2, "learning": 8, "steps": 5, "wall": 2, "memory": 2, "predictions": 1,
}  # fmt: skip
"""Charts of each section: two models, two backends, one setting."""


@pytest.fixture(scope="package")
def good(stored: Path) -> pd.DataFrame:
    """The processes that came to figures."""
    frame = results.load(stored)
    assert (frame["status"] == "ok").sum() == 36
    return frame[frame["status"] == "ok"]


@pytest.fixture(scope="package")
def rows(stored: Path) -> pd.DataFrame:
    """The rows of the table that came to figures."""
    table = results.table(results.load(stored))
    return table[table["status"] == "ok"]


def records(good: pd.DataFrame) -> list[Record]:
    return [record_at(Path(file), offset) for file, offset in zip(good["file"], good["offset"], strict=True)]


def data(page: Page, section: str, source: str) -> list[dict[str, Any]]:
    """The rows of a named source of all charts of a section, as Vega has them."""
    script = """([section, source]) => [...window.report.views].filter(([id]) => id.startsWith(section + "-"))
        .flatMap(([, view]) => { try { return view.data(source); } catch { return []; } }).map((row) => ({...row}))"""
    return list(page.evaluate(script, [section, source]))


def same(found: list[dict[str, Any]], name: str, expected: Any) -> None:
    assert sorted(row[name] for row in found) == pytest.approx(sorted(expected), rel=1e-5)


def test_every_section_has_its_charts_and_each_is_drawn(seen: Page) -> None:
    for section, count in SECTIONS.items():
        assert seen.locator(f"#{section} figure.chart svg").count() == count, section
    marks = seen.evaluate("[...document.querySelectorAll('figure.chart')].map((f) => f.querySelectorAll("
                          "'.mark-symbol path, .mark-rect path, .mark-line path').length)")  # fmt: skip
    assert min(marks) > 0


def test_points_and_intervals_are_those_of_the_records(seen: Page, good: pd.DataFrame, rows: pd.DataFrame) -> None:
    drawn, cases = data(seen, "figures", "processes"), data(seen, "figures", "cases")
    for metric, scale in (("throughput", 1), ("train_s", 1), ("accuracy", 100), ("peak_memory_mb", 1)):
        same(drawn, metric, good[metric] * scale)
        for end in ("", "_low", "_high"):
            same(cases, f"{metric}{end}", rows[f"{metric}{end}"] * scale)


def test_accuracy_stands_against_training_time_with_the_pareto_front(seen: Page, rows: pd.DataFrame) -> None:
    cases = data(seen, "accuracy", "cases")
    same(cases, "accuracy", rows["accuracy"] * 100)
    same(cases, "seconds", rows["train_s"])
    same(cases, "low", rows["accuracy_low"] * 100)
    beaten = [
        any((rows["train_s"] <= row["train_s"]) & (rows["accuracy"] > row["accuracy"]))
        or any((rows["train_s"] < row["train_s"]) & (rows["accuracy"] >= row["accuracy"]))
        for _, row in rows.iterrows()
    ]
    on_front = {round(row["accuracy"], 3) for row in cases if row["front"] == "yes"}
    assert on_front == {round(100 * a, 3) for a, lost in zip(rows["accuracy"], beaten, strict=True) if not lost}


def test_curves_are_means_over_the_seeds(seen: Page, good: pd.DataFrame) -> None:
    means, lows = [], []
    for _, own in good.groupby(["model", "backend", "scenario"]):
        curves = np.array(own["epoch_val_accuracy"].tolist()) * 100
        means += curves.mean(axis=0).tolist()
        lows += curves.min(axis=0).tolist()
    same(data(seen, "accuracy", "epochs"), "accuracy", means)
    same(data(seen, "accuracy", "epochs"), "low", lows)
    learned = data(seen, "learning", "epochs")
    for split, field in (("validation", "val_accuracy"), ("training", "train_accuracy")):
        drawn = [row for row in learned if row["split"] == split and row["value"] > 2]
        epochs = [[getattr(e, field) for e in r.stages[0].epochs] for r in records(good)]
        expected = np.array(epochs).reshape(12, 3, 3).mean(axis=1).ravel() * 100
        same(drawn, "value", expected)


def test_the_share_that_reached_a_target_is_counted_from_the_epochs(seen: Page, good: pd.DataFrame) -> None:
    curves = data(seen, "target", "curves")
    assert len({row["target"] for row in curves}) == 8
    for target in {row["target"] for row in curves}:
        last = [row for row in curves if row["target"] == target and row["scenario"] == "scratch"]
        own = good[good["scenario"] == "scratch"]
        times = [
            statistics.time_to(float(target), seconds, accuracies)
            for seconds, accuracies in zip(own["epoch_seconds"], own["epoch_val_accuracy"], strict=True)
        ]
        reached = np.isfinite(times).reshape(4, 3).sum(axis=1)
        assert sorted({row["reached"] for row in last}) == sorted(set(reached.tolist()))
        assert max(row["share"] for row in last) == pytest.approx(100 * reached.max() / 3)


def test_steps_wall_time_and_memory_are_those_of_the_records(seen: Page, good: pd.DataFrame) -> None:
    strips = [row for row in data(seen, "steps", "steps") if "usual" in row and "case" not in row]
    first = good[good["seed"] == 0]
    same(strips, "ms", [step / 1000 for steps in first["step_us"] for step in steps])
    points = [row for row in data(seen, "steps", "steps") if "case" in row]
    same(points, "ms", [step / 1000 for steps in good["step_us"] for step in steps])
    parts = data(seen, "wall", "parts")
    assert sum(row["seconds"] for row in parts) * 3 == pytest.approx(sum(sum(w.values()) for w in good["wall_s"]))
    assert {row["part"] for row in parts} == {"start", "step", "evaluation", "audit and other"}
    memory = data(seen, "memory", "parts")
    assert sum(row["mb"] for row in memory) * 3 == pytest.approx(good["process_memory_mb"].sum(), rel=1e-5)


def test_confusions_and_flips_are_counted_from_the_logits(seen: Page, stored: Path, good: pd.DataFrame) -> None:
    cells = data(seen, "predictions", "cells")
    assert sum(cell["images"] for cell in cells) == 36 * IMAGES
    arrays = [get_arrays(stored, sha256) for sha256 in good["logits"]]
    right = [(a["logits"].argmax(axis=1) == a["labels"]) for a in arrays]
    assert sum(cell["images"] for cell in cells if cell["kind"] == "right") == np.sum(right)
    first, second = right[0], right[9]  # scratch of resnet18 in both backends, seed 0
    said = seen.locator("#flips-result").inner_text()
    assert f"both cases {(first & second).sum()}, only A {(first & ~second).sum()}," in said
    assert seen.locator("#flips-shown li").count() == (first != second).sum()


def test_the_same_images_are_shown_for_every_case_with_label_prediction_and_confidence(seen: Page) -> None:
    cards = seen.locator("#predictions ul.gallery").first.locator("li")
    assert cards.count() == IMAGES
    assert cards.first.locator("img").get_attribute("src").startswith("data:image/webp;base64,")
    assert cards.first.locator("span[data-case]").count() == 12
    words = cards.nth(3).inner_text().split("\n")
    assert words[0] in CLASSES
    assert words[1][0] in "✓✗"
    assert words[1].endswith("%")


def test_the_answer_follows_from_the_records(seen: Page, rows: pd.DataFrame) -> None:
    said = seen.locator("#answer").inner_text()
    for backend, own in rows.groupby("backend"):
        best = own.loc[own["accuracy"].idxmax()]
        close = own[own["accuracy"] >= best["accuracy"] - best["accuracy_mde"]]
        fastest = close.loc[close["train_s"].idxmin()]
        figure = f"{100 * fastest['accuracy']:.1f} % (95 % interval"
        assert f"with {backend} was {fastest['scenario']} of {fastest['model']}: {figure}" in said
    assert said.count("3 runs, 3 seeds") == 2
    assert "not compared with the answer of keras3: no certificate" in said


def test_the_table_shows_all_its_rows_and_no_legend_is_cut(seen: Page, rows: pd.DataFrame) -> None:
    box = seen.locator("#table .wide").first
    assert box.locator("tbody tr").count() == len(rows)
    assert box.evaluate("(box) => box.scrollHeight - box.clientHeight") == 0
    texts = seen.evaluate(
        "[...document.querySelectorAll('#accuracy .role-legend-label text')].map((t) => t.textContent)"
    )
    assert {"mobilenet-v2-0.35 · pytorch", "mobilenet-v2-0.35 · keras3"} <= set(texts)
    assert not [text for text in texts if "…" in text]


def test_the_table_has_the_figures_of_the_terminal_and_every_reason(seen: Page, rows: pd.DataFrame) -> None:
    table = seen.locator("#table").inner_text()
    for rate in rows["throughput"]:
        assert f"{rate:.0f}" in table
    for text in ("no CUDA device here", f"file {QUOTE} cannot be read", "≠ no certificate"):
        assert text in table


def test_text_from_outside_is_text(seen: Page) -> None:
    assert seen.title() == "Fine-tuning on embedded-target"
    assert seen.locator("script:not([type])").count() == 3
    assert seen.locator("main img[src='x']").count() == 0
    for place in ("#table", "#predictions"):
        assert EVIL in seen.locator(place).inner_text()
        assert QUOTE in seen.locator(place).inner_text()


def test_the_policy_allows_no_network_and_no_evaluation(seen: Page) -> None:
    policy = seen.locator("meta[http-equiv='Content-Security-Policy']").get_attribute("content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
