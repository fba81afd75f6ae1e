"""The records that are kept of the campaign are complete and right, and every figure follows from the raw rows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from click.testing import CliRunner

from benchmarks.studies import false_alarms
from tests.benchmarks.commanding import ROOT, invoke

KEPT = ROOT / "docs" / "campaign"


def test_it_is_complete_and_its_page_shows_what_the_script_says() -> None:
    said = CliRunner().invoke(false_alarms.main, ["--summary", "--results", str(KEPT)])
    assert said.exit_code == 0, said.output
    for condition, line in zip(false_alarms.CONDITIONS, said.stdout.splitlines(), strict=True):
        every = f"{condition.times} of {condition.times}"
        assert line.startswith(f"{condition.name}: {every}: "), line
        assert f"; truth inside {every}; " in line
        assert ("regression" in line) == (condition.delay > 0)
    (shown,) = re.findall(r"```text\n(.*?)```", (KEPT / "README.md").read_text(), re.DOTALL)
    assert " ".join(shown.split()) == " ".join(said.stdout.split())


def test_every_figure_follows_from_the_raw_rows_whether_they_are_parsed_or_copied(tmp_path: Path) -> None:
    shutil.copytree(KEPT, tmp_path / "campaign")
    for _ in range(2):  # the second time there is a derived copy of rows of which there are none
        said = invoke("verify", tmp_path / "campaign")
        assert (said.exit_code, said.stdout) == (
            0, "0 rows of a table and every stored verdict follow from the raw rows\n",
        ), said.output  # fmt: skip
    assert list((tmp_path / "campaign" / "derived").iterdir())
