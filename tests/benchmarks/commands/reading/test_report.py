"""The command that writes the page, and the run that ends by it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.commands.measuring import run
from benchmarks.commands.reading.report import prepared
from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.datasets.cache import ENVIRONMENT
from results.report import page
from tests.benchmarks.commanding import SMALL, invoke, refused
from tests.benchmarks.conftest import Finished
from tests.results.records import build
from tests.results.tables.test_load import store


def test_the_page_of_a_real_run_and_its_figures(finished: Finished, tmp_path: Path) -> None:
    out, figures = tmp_path / "pages" / "report.html", tmp_path / "figures"
    result = invoke("report", "--results", finished.results, "--out", out, "--figures", figures)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    page = out.read_text()
    for record in finished.records:
        if record.test and record.status == "ok":
            assert record.case.scenario.name in page
    assert (figures / "figures-0.svg").read_text().count("<path") > 4
    assert (figures / "learning-accuracy-0.png").read_bytes().startswith(b"\x89PNG")
    assert {path.suffix for path in figures.iterdir()} == {".svg", ".png"}


def test_the_script_of_the_charts_is_made_once_and_a_cache_that_cannot_be_written_costs_only_time(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    bundle = page.bundle
    monkeypatch.setattr(page, "bundle", lambda: made.append("once") or bundle())

    def written(name: str) -> str:
        assert invoke("report", "--results", finished.results, "--out", tmp_path / name).exit_code == 0
        return (tmp_path / name).read_text()

    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    first, second = written("1.html"), written("2.html")
    assert first == second
    assert made == ["once"]
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "1.html"))
    assert bundle() in written("3.html")
    assert made == ["once", "once"]


def test_a_run_ends_by_writing_it_and_says_where(images: Path, tmp_path: Path) -> None:
    case = ("run", *SMALL, "--data", images, "--scenario", "scratch", "--quiet", "--results", tmp_path, "--report")
    result = invoke(*case)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert "tiny-cnn" in (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    again = invoke(*case)
    assert again.exit_code == 0
    assert again.stderr.splitlines()[-1].startswith("no report was written: Invalid value for '--out'")


def test_the_run_of_a_folder_that_holds_too_much_is_reported_alone(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "REPORTED", 1)
    store(tmp_path, build(model="another-model"))
    case = ("run", *SMALL, "--data", images, "--scenario", "scratch", "--quiet", "--results", tmp_path, "--report")
    said = invoke(*case).stderr.splitlines()[-1]
    assert said == f"report of this run only, because {tmp_path} is too large for one page: {tmp_path}/report.html"
    text = (tmp_path / "report.html").read_text()
    assert "tiny-cnn" in text
    assert "another-model" not in text


def test_a_place_that_cannot_be_written_and_results_that_are_not_there_are_refused(
    finished: Finished, tmp_path: Path
) -> None:
    assert "--out" in refused("report", "--results", finished.results, "--out", "/proc/report.html")
    assert "--figures" in refused(
        "report", "--results", finished.results, "--out", tmp_path / "a", "--figures", "/proc/a"
    )
    assert "give a folder with --figures" in refused("report", "--results", finished.results, "--chart", "wall-0")
    bad = ("--out", tmp_path / "a.html", "--figures", tmp_path, "--chart", "wal-0")
    assert "unknown chart wal-0; the charts are figures-0," in refused("report", "--results", finished.results, *bad)
    assert "does not exist" in refused("report", "--results", tmp_path / "nowhere", "--out", tmp_path / "a.html")


def test_images_are_found_in_the_cache_by_their_digest(
    tiny_arrays: ArraySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    meta = prepare_arrays("tiny", tiny_arrays, cache=tmp_path).meta
    found = prepared(meta.sha256)
    assert found is not None
    assert found.meta == meta
    assert prepared("0" * 64) is None


def test_without_its_extra_it_says_what_to_install(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("results.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "altair", None)
    result = invoke("report", "--results", finished.results, "--out", tmp_path / "report.html")
    assert result.exit_code == 3
    assert result.stderr == "error: a report needs altair; run `pip install finetune-bench`\n"


def test_nothing_measured_is_said_on_the_page_and_by_the_exit_code(tmp_path: Path) -> None:
    store(tmp_path, build(status="failed"))
    result = invoke("report", "--results", tmp_path)
    assert (result.exit_code, result.stdout) == (3, f"{tmp_path / 'report.html'}\n")
    assert "Nothing was measured" in (tmp_path / "report.html").read_text()
