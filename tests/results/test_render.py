"""What people read, held against files that were looked at; rewrite them with FINETUNE_BENCH_GOLDEN=write."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from rich.cells import cell_len

import results
from harness.errors import Refused
from harness.record import Record
from results.render import render
from tests.results.records import build
from tests.results.test_read import store

GOLDEN = Path(__file__).with_name("golden")
KERAS = {"backend": "keras3", "engine": "tensorflow", "model": "mobilenet-v2-0.35"}


def suite() -> list[Record]:
    made = []
    for name, accuracy in (("scratch", 0.561), ("full", 0.752), ("two-stage", 0.771)):
        for seed, shift in enumerate((-0.01, 0.0, 0.012)):
            changes = {
                "scenario": name, "seed": seed, "accuracy": accuracy + shift, "curve": (0.4, accuracy + shift),
                "stage": {"keep": "best"} if name == "two-stage" else {}, "norm_steps": 20 if name == "scratch" else 99,
            }  # fmt: skip
            made.append(build(step_us=52_000 + 900 * seed, **changes))
            if seed == 0:
                made.append(build(step_us=28_000, **changes, **KERAS))
    made.append(build(device="cuda", status="skipped", reason="no CUDA device here; use --device cpu"))
    made.append(build(scenario="small-lr-conv", status="failed", reason='bn1.running_mean moved\nalthough "frozen"'))
    return made


def tabulate(folder: Path, *records: Record, target: float | None = None) -> pd.DataFrame:
    store(folder, *records)
    return results.table(results.load(folder), target)


def same(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FINETUNE_BENCH_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("name", "width"), [("wide.txt", 100), ("narrow.txt", 48)])
def test_the_terminal_shows_the_golden_table(name: str, width: int, tmp_path: Path) -> None:
    text = render(tabulate(tmp_path, *suite(), target=0.7), width=width).decode()
    assert max(map(cell_len, text.splitlines())) <= width
    same(name, text)


def test_markdown_is_the_golden_table(tmp_path: Path) -> None:
    same("table.md", render(tabulate(tmp_path, *suite()), "markdown").decode())


def test_colour_adds_codes_and_nothing_else(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *suite())
    plain, coloured = (render(made, colour=colour).decode() for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[" in coloured


def test_settings_that_differ_become_columns_and_versions_only_where_needed(tmp_path: Path) -> None:
    text = render(tabulate(tmp_path, build(), build(image_size=96), build(warmup_steps=9, image_size=96))).decode()
    head = text.splitlines()[2]
    assert "image size" in head
    assert "warmup steps" in head
    assert "version" not in head
    assert "64 px" not in text.splitlines()[0]


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    evil = build(scenario="a|b\x1b[2J [bold]x[/]", status="failed", reason="<script>|\x1b]0;title\x07\nsecond *line*")
    made = tabulate(tmp_path, evil, build(scenario="[red]*full*|"))
    text, markdown = render(made).decode(), render(made, "markdown").decode()
    assert "\x1b" not in text + markdown
    assert "[red]*full*|" in text
    assert r"\[red\]\*full\*\|" in markdown
    assert r"\<script\>\|" in markdown


def test_only_failures_still_make_a_table_that_says_so(tmp_path: Path) -> None:
    text = render(tabulate(tmp_path, build(status="skipped", reason="no such backend"))).decode()
    assert "Skipped or failed" in text
    assert "no such backend" in text
    assert "images/s" not in text


def test_csv_json_and_parquet_give_back_every_figure(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *suite(), target=0.7)
    figures = list(made.select_dtypes("float64").columns)
    parquet = pd.read_parquet(io.BytesIO(render(made, "parquet")))
    assert {name: str(kind) for name, kind in parquet.dtypes.items()} == {n: str(k) for n, k in made.dtypes.items()}
    pd.testing.assert_frame_equal(parquet.drop(columns=["marks", "notes"]), made.drop(columns=["marks", "notes"]))
    assert [list(marks) for marks in parquet["marks"]] == made["marks"].tolist()
    rows = [
        *csv.DictReader(io.StringIO(render(made, "csv").decode())),
        *msgspec.json.decode(render(made, "json"), type=list[dict[str, Any]]),
    ]
    assert all(list(row) == list(made.columns) for row in rows)
    for name in [*figures, "runs"]:
        assert [float(row[name] or "nan") for row in rows] == pytest.approx(
            [*made[name]] * 2, abs=0, rel=0, nan_ok=True
        )


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="text, markdown, csv, json, parquet"):
        render(tabulate(tmp_path, build()), "xlsx")  # type: ignore[arg-type]
