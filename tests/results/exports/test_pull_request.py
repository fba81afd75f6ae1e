"""The summary of a pull request: short, true, and inert whatever the names are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt

import results
from harness.running.record import Record
from results.exports.pull_request import MOST_ROWS, ONLY_SIDES, as_summary
from tests.results.exports.sides import store_sides
from tests.results.records import build
from tests.results.tables.test_load import store
from tests.results.tables.test_render import same, suite

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"> </details> | @everyone #12 GH-3 https://evil.example '
    "www.evil.example a@evil.example [link](https://evil.example) ![image](//evil.example) `code` $math$ "
    "&lt; ~~no~~ **b** :tada:"
)
TAGS = {"h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


def tabulate(folder: Path, *records: Record) -> pd.DataFrame:
    store(folder, *records)
    return results.table(results.load(folder))


class Page(HTMLParser):
    """Tags and text of what a reader sees."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_summary_is_the_golden_one(tmp_path: Path) -> None:
    same("summary.md", as_summary(tabulate(tmp_path, *suite())))


def test_text_from_outside_stays_text_and_calls_nobody(tmp_path: Path) -> None:
    records = [build(model=HOSTILE, dataset=HOSTILE, scenario=HOSTILE), build(status="failed", seed=1, reason=HOSTILE)]
    page = Page(as_summary(tabulate(tmp_path, *records)))
    assert page.tags == TAGS
    visible = page.text.replace("\N{ZERO WIDTH SPACE}", "")
    assert visible.count(HOSTILE) >= 4
    assert not re.search(r"@\w|#\d|://|www\.|GH-\d|:tada", page.text)


def test_what_does_not_fit_is_counted_and_long_reasons_are_cut(tmp_path: Path) -> None:
    failed = [build(status="failed", seed=n, warmup_steps=n, reason=f"{n} " + "x" * 5000) for n in range(1, 46)]
    many = [build(warmup_steps=n) for n in range(1, 46)]
    text = as_summary(tabulate(tmp_path, *many, *failed))
    assert text.count(f"and {45 - MOST_ROWS} more; ") == 2
    assert len(text) < 65_536


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    text = as_summary(tabulate(tmp_path, build(status="skipped", reason="no CUDA")))
    assert "Nothing was measured" in text
    assert "1 skipped or failed" in text


def test_sides_of_comparisons_are_not_cases(tmp_path: Path) -> None:
    store_sides(tmp_path, build(), build(seed=1))
    assert ONLY_SIDES in as_summary(results.table(results.load(tmp_path)))
