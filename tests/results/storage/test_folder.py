"""One folder holds everything a run writes, and git sees its accepted changes only."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from benchmarks.cli import command_modules
from benchmarks.studies import false_alarms
from results.certificates.certificate import write_certificate
from results.storage.folder import RESULTS, Unwritable, make_folder
from results.storage.merge import merge
from results.storage.objects import put_json
from results.verdicts.accepted import Acceptance, add_accepted
from tests.benchmarks.commanding import ROOT, SMALL, git
from tests.results.certificates.test_certificate import certificate
from tests.results.records import build
from tests.results.tables.test_load import store

LEAVE = Acceptance(case="a/b/c", metric="accuracy", up_to=1.5, reason="fewer epochs", moment="2026-01-01")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's repository, which is the current folder."""
    git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untracked(repository: Path) -> list[str]:
    return [line.removeprefix("?? ") for line in git(repository, "status", "--porcelain", "-uall").splitlines()]


def test_git_ignores_what_is_written_but_not_what_is_accepted(repository: Path) -> None:
    store(RESULTS, build())
    assert list(RESULTS.rglob("*.jsonl"))
    assert untracked(repository) == []
    add_accepted(RESULTS, LEAVE)
    assert untracked(repository) == ["bench-results/baselines/accepted.jsonl"]


def test_a_clone_that_has_only_acceptances_ignores_what_is_written_beside_them(repository: Path) -> None:
    (RESULTS / "baselines").mkdir(parents=True)
    (RESULTS / "baselines" / "accepted.jsonl").write_text("")
    put_json(RESULTS, {})
    assert untracked(repository) == ["bench-results/baselines/accepted.jsonl"]


def test_whatever_writes_first_makes_the_same_folder(repository: Path) -> None:
    store(Path("source"), build())
    put_json("objects", {"a": 1})
    write_certificate(Path("certified"), certificate(build(), build()), "key")
    add_accepted(Path("accepted"), LEAVE)
    merge(Path("merged"), [Path("source")])
    made = ("source", "objects", "certified", "accepted", "merged")
    assert len({(repository / name / ".gitignore").read_text() for name in made}) == 1
    assert untracked(repository) == ["accepted/baselines/accepted.jsonl"]


def test_a_folder_with_files_of_somebody_is_not_hidden_from_git(repository: Path) -> None:
    (repository / "docs").mkdir()
    (repository / "docs" / "guide.md").write_text("words")
    write_certificate(Path("docs"), certificate(build(), build()), "key")
    assert len(untracked(repository)) == 2


def test_a_folder_that_cannot_be_made_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable, match=r"cannot write results to .*file"):
        make_folder(tmp_path / "file", tmp_path / "file" / "runs")


def test_every_command_has_the_same_default() -> None:
    found = {"campaign": _default(false_alarms.main)}
    for name, module in command_modules().items():
        found[name] = _default(importlib.import_module(module).command)
    assert {name for name, default in found.items() if default == RESULTS} == {
        "accept", "advise", "bisect", "campaign", "certify", "compare", "doctor", "explain", "export", "gate",
        "history", "merge", "noise", "report", "run", "scaling", "table", "tune", "verify"}  # fmt: skip
    assert {default for default in found.values() if default} == {RESULTS}


def _default(command: click.Command) -> Path | None:
    return next((one.default for one in command.params if one.name == "results"), None)


def test_a_run_with_its_report_leaves_a_repository_clean(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", *SMALL, "--scenario", "scratch", "--batch-size", "8"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (RESULTS / "report.html").exists()
    assert [file.name for file in repository.iterdir() if file.name != ".git"] == ["bench-results"]
    assert untracked(repository) == []


def test_this_repository_ignores_its_own_results_but_not_its_acceptances() -> None:
    def ignored(name: str) -> bool:
        return not subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", name], check=False).returncode

    assert all(ignored(f"bench-results/{name}") for name in ("runs/x", "report.html", "certificates/x", "steps/x"))
    assert not ignored("bench-results/baselines/accepted.jsonl")
