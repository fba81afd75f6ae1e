"""The questions of docs/results.md are asked, and answered as the table does."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

import results
from tests.benchmarks.commanding import ROOT, invoke
from tests.results.records import build
from tests.results.tables.test_load import store

PAGE = (ROOT / "docs" / "results.md").read_text()
QUESTIONS = dict(re.findall(r"<!-- question: (.*?) -->\n```sql\n(.*?)```", PAGE, re.DOTALL))


def test_every_question_is_found() -> None:
    assert len(QUESTIONS) == PAGE.count("```sql") == 3


def test_the_answers_are_those_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [build(seed=s, scenario=name, accuracy=0.7 + s / 100) for s in range(3) for name in ("full", "scratch")]
    store(tmp_path / "results", *made, build(status="failed", reason="diverged"))
    monkeypatch.chdir(tmp_path)
    assert invoke("export", "--results", "results", "--to", "parquet", "--out", "processes.parquet").exit_code == 0
    first, fastest, wrong = (duckdb.sql(question).df() for question in QUESTIONS.values())
    table = results.table(results.load("results"))
    good = table[table["status"] == "ok"].sort_values("scenario")
    found = first.sort_values("scenario")
    assert found["images_per_s"].tolist() == pytest.approx(good["throughput"].tolist())
    assert found["accuracy"].tolist() == pytest.approx(good["accuracy"].tolist())
    assert found["runs"].tolist() == good["runs"].tolist()
    assert set(fastest["machine"]) == {"m1"}
    assert wrong["reason"].tolist() == ["diverged"]
