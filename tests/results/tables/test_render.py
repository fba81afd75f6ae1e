"""What people read, held against files that were looked at; rewrite them with FINETUNE_BENCH_GOLDEN=write."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from msgspec.structs import replace
from rich.cells import cell_len

import results
from harness.errors import Refused
from harness.rules import Breach
from harness.running.record import Record
from results.certificates.certificate import Certificates
from results.tables.render import render
from results.tables.sheet import DEFAULT, Style
from results.tables.side_by_side import unproved
from tests.results.certificates.test_certificate import certificate, check
from tests.results.records import build
from tests.results.tables.test_load import store

GOLDEN = Path(__file__).with_name("golden")
MOBILE = {"model": "mobilenet-v2-0.35"}
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


@pytest.mark.parametrize(
    ("name", "width", "style"),
    [("table.txt", 100, DEFAULT), ("narrow.txt", 48, DEFAULT), ("wide.txt", 200, Style(wide=True, explain=True))],
)
def test_the_terminal_shows_the_golden_table(name: str, width: int, style: Style, tmp_path: Path) -> None:
    text = render(tabulate(tmp_path, *suite(), target=0.7), style=style, width=width).decode()
    assert max(map(cell_len, text.splitlines())) <= width
    same(name, text)


def test_markdown_is_the_golden_table(tmp_path: Path) -> None:
    same("table.md", render(tabulate(tmp_path, *suite()), "markdown").decode())


def twins(folder: Path, *further: Record) -> tuple[pd.DataFrame, Certificates]:
    """Two frameworks with seeds, one method certified and one not, and what only one of them has."""
    own, proofs = list(further), []
    for name in ("full", "freeze-conv-live-norm"):
        ours = [build(scenario=name, seed=seed, step_us=50_000 + 900 * seed, **MOBILE) for seed in range(3)]
        theirs = [build(scenario=name, seed=seed, step_us=43_000 + 2000 * seed, **KERAS) for seed in range(3)]
        own += [*ours, *theirs]
        checks = (*(check(level) for level in (0, 1, 2)), check(3, name), check(4, name))
        proofs.append(replace(certificate(ours[0], theirs[0], checks=checks), sha256="5" * 64))
    own += [build(scenario="two-stage", **MOBILE), build()]
    table = tabulate(folder, *own)
    table.attrs["warnings"] = [Breach("V50", "", "run 01 planned 9 cases and has no record of 1 of them")]
    return table, Certificates((proofs[0],))


def test_two_frameworks_are_the_golden_table_with_ratios(tmp_path: Path) -> None:
    table, proofs = twins(tmp_path, build(status="failed", scenario="scratch", reason="V07: 9 updates in 18 steps"))
    text = render(table, certificates=proofs).decode()
    assert max(map(cell_len, text.splitlines())) <= 100
    same("twins.txt", text)
    same("twins.md", render(table, "markdown", certificates=proofs).decode())


def test_it_is_printed_in_order_answer_table_footnotes_problems_warnings(tmp_path: Path) -> None:
    table, proofs = twins(tmp_path, build(status="failed", scenario="scratch", reason="V07: 9 updates in 18 steps"))
    text = render(table, certificates=proofs).decode()
    parts = ("On embedded-target, the fastest", "\n\nembedded-target · 64 px", "method ", "images/s, times, MB: median",
             "Skipped or failed", "! run 01 planned")  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.startswith(parts[0])


def test_the_widest_names_and_ratio_fit_in_a_hundred_columns(tmp_path: Path) -> None:
    table, proofs = twins(tmp_path)
    lines = render(table, certificates=proofs).decode().splitlines()
    (row,) = [line for line in lines if "× 1.1" in line]
    assert re.search(r"full +keras3-tensorflow .* × 1\.13 \(1\.0\d–1\.\d\d\) P4$", row)
    assert lines[lines.index(row) - 1].split()[:2] == ["full", "pytorch"]  # what the ratio is over is in the row above
    assert sum("≠ no certificate" in line for line in lines) == 1
    assert [line for line in lines if line in ("mobilenet-v2-0.35", "resnet18")] == ["mobilenet-v2-0.35", "resnet18"]
    assert "Side by side" not in "\n".join(lines)


def test_what_one_framework_alone_has_is_no_missing_comparison(tmp_path: Path) -> None:
    table, proofs = twins(tmp_path)
    assert unproved(table, proofs.all) == [
        "mobilenet-v2-0.35 freeze-conv-live-norm: ≠ no certificate (keras3-tensorflow)"
    ]
    alone = render(tabulate(tmp_path / "alone", build(), build(**KERAS)))
    assert "ratio" not in alone.decode()


def test_ids_of_rules_are_shown_only_when_they_are_asked_for(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *suite(), build(scenario="odd", status="failed", reason="V07: 9 updates; V45: a half"))
    made.attrs["warnings"] = [Breach("V50", "", "1 line not read: damaged")]
    for kind in ("text", "markdown"):
        assert not re.search(r"V\d\d", render(made, kind).decode())
        shown = render(made, kind, style=Style(explain=True)).decode()
        assert {"V07", "V11", "V45", "V46", "V50"} <= set(re.findall(r"V\d\d", shown))


def test_a_figure_that_needs_a_note_has_a_sign_before_it_and_a_line_that_names_its_rows(tmp_path: Path) -> None:
    made = tabulate(tmp_path, build(), build(scenario="short", steps=20), build(scenario="lag", norm_steps=4))
    text = render(made).decode()
    assert re.search(r"^  short +pytorch +75\.0 +~320 ", text, re.MULTILINE)
    assert re.search(r"^  lag +pytorch +~75\.0 +320 ", text, re.MULTILINE)
    assert "~ images/s: measured over less than 1 s – short" in text
    assert not set(text) & set("¹²³⁴⁵⁶⁷⁸⁹")


def test_wide_adds_columns_and_the_default_has_only_intervals_behind_a_plus_minus(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *(build(seed=seed) for seed in range(2)))
    wide = render(made, style=Style(wide=True), width=200).decode()
    for title in ("epoch s", "compile s", "resolution points", "seeds", "runs", "step ms", "320 (320–320)"):
        assert title in wide
    text = render(made).decode()
    assert "± test" not in text + wide
    assert "compile s" not in text


def test_colour_adds_codes_and_nothing_else(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *suite())
    plain, coloured = (render(made, colour=colour).decode() for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[" in coloured


def test_settings_that_differ_become_columns_and_versions_only_where_needed(tmp_path: Path) -> None:
    text = render(tabulate(tmp_path, build(), build(image_size=96), build(warmup_steps=9, image_size=96))).decode()
    lines = text.splitlines()
    place = next(n for n, line in enumerate(lines) if "framework" in line)
    head = lines[place]
    assert "image size" in head
    assert "warmup steps" in head
    assert "version" not in head
    assert "64 px" not in lines[place - 2]


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
    assert text.startswith("Nothing was measured, so there is no answer: 1 skipped.")


def test_csv_json_and_parquet_give_back_every_figure(tmp_path: Path) -> None:
    made = tabulate(tmp_path, *suite(), target=0.7)
    figures = list(made.select_dtypes("float64").columns)
    parquet = pd.read_parquet(io.BytesIO(render(made, "parquet")))
    assert {name: str(kind) for name, kind in parquet.dtypes.items()} == {n: str(k) for n, k in made.dtypes.items()}
    lists = ["marks", "notes", "throughputs"]
    pd.testing.assert_frame_equal(parquet.drop(columns=lists), made.drop(columns=lists))
    assert [list(marks) for marks in parquet["marks"]] == made["marks"].tolist()
    assert [list(rates) for rates in parquet["throughputs"]] == made["throughputs"].tolist()
    rows = [
        *csv.DictReader(io.StringIO(render(made, "csv").decode())),
        *msgspec.json.decode(render(made, "json"), type=list[dict[str, Any]]),
    ]
    assert all(list(row) == list(made.columns) for row in rows)
    for name in [*figures, "runs"]:
        given = [float("nan") if row[name] in ("", None) else float(row[name]) for row in rows]
        assert given == pytest.approx([*made[name]] * 2, abs=0, rel=0, nan_ok=True)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="text, markdown, csv, json, parquet"):
        render(tabulate(tmp_path, build()), "xlsx")  # type: ignore[arg-type]
