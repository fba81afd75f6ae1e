"""Revisions are those of this project's own checkout; git's words and the remedy reach the user on one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.comparing.repository import commit_of, merge_base, resolve
from harness.process.environment import HERE
from tests.benchmarks.commanding import ROOT, SMALL, checkout, git, invoke, refused

INSTEAD = ("git checkout of it", "--python A=… --python B=… to gate or compare", "--plugin")
CASE = (*SMALL, "--scenario", "scratch", "--seeds", "0")
COMMANDS = pytest.mark.parametrize(
    "command",
    [("gate", "--base", "main"), ("compare", "rev:main", "here", *SMALL), ("bisect", "main~1", "main")],
    ids=lambda command: command[0],
)


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of this project with two commits."""
    folder = checkout(tmp_path_factory.mktemp("own") / "finetune-bench")
    for file in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / file, folder)
    git(folder, "init", "--quiet")
    commit(folder)
    commit(folder)
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Somebody's repository with two commits."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "train.py").write_text("print('training')")
    git(folder, "init", "--quiet")
    commit(folder)
    commit(folder)
    return folder


def said(code: Path, folder: Path, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of the program as it lies in `code`, run in `folder`."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(code), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


@COMMANDS
def test_installed_in_another_projects_repository_it_says_what_it_needs_and_changes_nothing(
    command: tuple[str, ...], foreign: Path, tmp_path: Path
) -> None:
    code = checkout(foreign / ".venv" / "site-packages")
    before = contents(foreign / ".git")
    ended, line = said(code, foreign, *command, FINETUNE_BENCH_CACHE=str(tmp_path / "cache"))
    assert (ended, len(line.splitlines())) == (2, 1), line
    assert all(words in line for words in (*INSTEAD, str(code), f"inside the repository {foreign}"))
    assert contents(foreign / ".git") == before
    assert git(foreign, "worktree", "list").count("\n") == 0
    assert not (tmp_path / "cache" / "revisions").exists()
    assert not (foreign / "bench-results").exists()


@COMMANDS
def test_in_another_projects_repository_nobody_gets_a_comparison_of_this_one(
    command: tuple[str, ...], foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign)
    line = refused(*command)
    assert all(words in line for words in (*INSTEAD, f"not in the repository of the current folder, {foreign}"))
    assert [path.name for path in foreign.iterdir() if path.name != ".git"] == ["train.py"]


@COMMANDS
def test_the_help_says_whose_revisions_are_meant(command: tuple[str, ...]) -> None:
    text = " ".join(invoke(command[0], "--help").stdout.split())
    assert "git checkout of" in text
    assert "of this project" in text
    assert "--python" in text


def test_without_a_repository_it_says_so(tmp_path: Path) -> None:
    code = checkout(tmp_path / "unpacked")
    ended, line = said(code, tmp_path, "gate", "--base", "main")
    assert ended == 2
    assert all(words in line for words in (*INSTEAD, f"{code} is not in a git repository"))


def test_files_that_the_repository_does_not_hold_are_no_checkout(foreign: Path) -> None:
    ended, line = said(checkout(foreign), foreign, "gate", "--base", "main")
    assert ended == 2
    assert "is not tracked by its repository" in line


def test_a_repository_of_another_owner_is_named_with_gits_own_remedy(own: Path, tmp_path: Path) -> None:
    wrapped = tmp_path / "git"
    wrapped.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    wrapped.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended, line = said(own, own, "gate", "--base", "main", PATH=path, HOME=str(tmp_path))
    assert (ended, len(line.splitlines())) == (2, 1), line
    assert "dubious ownership" in line
    assert f"git config --global --add safe.directory {own}" in line
    assert "give a branch" not in line


def test_in_a_shallow_clone_a_missing_revision_is_a_missing_history(own: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{own}", shallow)
    for command in (
        ("gate", "--base", "main~1"),
        ("compare", "rev:main~1", "here", *CASE),
        ("bisect", "main~1", "main"),
    ):
        ended, line = said(shallow, shallow, *command)
        assert ended == 2, line
        assert all(words in line for words in ("shallow", "fetch-depth: 0", "git fetch --unshallow", "git says"))
    git(shallow, "checkout", "--quiet", "--orphan", "other")
    commit(shallow)
    ended, line = said(shallow, shallow, "gate", "--base", "main")
    assert ended == 4, line
    assert "no commit in common" in line
    assert "git fetch --unshallow" in line


def test_a_branch_that_does_not_follow_is_no_range(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", own, other)
    git(other, "checkout", "--quiet", "-b", "side", "main~1")
    commit(other)
    ended, line = said(other, other, "bisect", "main", "side")
    assert ended == 2
    assert "side does not come after main" in line


def test_without_git_revisions_are_refused_and_folders_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    results = ("--results", tmp_path / "results")
    line = refused("gate", "--base", "main", *results)
    assert "git is not installed" in line
    assert "dir:CHECKOUT" in line
    other = checkout(tmp_path / "other")
    done = invoke("compare", f"dir:{other}", "here", *CASE, "--turn", "0.02", "--budget", "0.02", *results)
    assert done.exit_code == 0, done.output
    assert commit_of(HERE.root) == ""


def test_the_environment_of_a_hook_leads_to_no_other_repository(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(ROOT, "rev-parse", "HEAD")
    for name, value in {"GIT_DIR": foreign / ".git", "GIT_WORK_TREE": foreign, "GIT_PREFIX": "",
                        "GIT_INDEX_FILE": foreign / ".git" / "index",
                        "GIT_OBJECT_DIRECTORY": foreign / ".git" / "objects"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    assert resolve("HEAD") == merge_base("HEAD") == head
    assert commit_of(HERE.root).removesuffix("+") == head
    assert commit_of(tmp_path) == ""


def test_a_folder_inside_somebody_elses_repository_has_no_commit_and_leaves_no_trace(foreign: Path) -> None:
    inner = foreign / "vendored"
    inner.mkdir()
    os.utime(foreign / "train.py", (0, 0))  # a status would be noted in the index
    before = contents(foreign)
    assert commit_of(inner) == ""
    assert len(commit_of(foreign)) == 40
    assert contents(foreign) == before
