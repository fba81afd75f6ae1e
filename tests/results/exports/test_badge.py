"""A badge says one figure, and nothing else whatever the names are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import results
from harness.running.record import Record
from results.exports.badge import BROKEN, FIGURE, NO_FIGURE, Badge, as_endpoint, as_svg, badge
from tests.results.records import build
from tests.results.tables.test_load import store

HOSTILE = '<script>alert(1)</script>"&\x1b]'


def row(folder: Path, *records: Record) -> dict[Any, Any]:
    store(folder, *records)
    (only,) = results.table(results.load(folder)).to_dict("records")
    return only


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("accuracy", "76.0 ± 12.7 %"),
        ("throughput", "319 (318–320) images/s"),
        ("train_s", "2.55 s"),
        ("loss", "0.80 nats"),
    ],
)
def test_the_figure_stands_with_its_interval_and_unit(metric: str, message: str, tmp_path: Path) -> None:
    made = row(tmp_path, build(accuracy=0.75), build(seed=1, accuracy=0.77, step_us=50_300))
    assert badge(made, metric) == Badge(
        f"resnet18 full (pytorch) {results.tables.columns.METRICS[metric].title}", message, FIGURE
    )


def test_what_was_not_measured_is_said_instead(tmp_path: Path) -> None:
    void = row(tmp_path / "a", build(compile_events=1))
    assert badge(void, "throughput", "speed") == Badge("speed", "no figure", NO_FIGURE)
    assert badge(row(tmp_path / "b", build(status="failed")), "accuracy")[1:] == ("failed", BROKEN)
    assert badge(row(tmp_path / "c", build(status="skipped")), "accuracy")[1:] == ("skipped", NO_FIGURE)


def test_the_image_is_well_formed_and_shows_names_as_text(tmp_path: Path) -> None:
    shown = badge(row(tmp_path, build(model=HOSTILE)), "accuracy")
    root = ElementTree.fromstring(as_svg(shown))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [shown.label] * 2 + [shown.message] * 2
    assert HOSTILE[:25] in shown.label
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg", "linearGradient", "stop", "mask", "rect", "g", "path", "text"}  # fmt: skip


def test_the_endpoint_has_the_schema_of_shields() -> None:
    content = json.loads(as_endpoint(Badge("speed", "102 images/s", FIGURE)))
    assert content == {"schemaVersion": 1, "label": "speed", "message": "102 images/s", "color": FIGURE}
