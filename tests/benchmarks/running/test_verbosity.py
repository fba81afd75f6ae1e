"""`--quiet` and `--verbose` of the program."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import pytest

from benchmarks import cli
from harness.process.launch import STARTED
from tests.benchmarks.commanding import SMALL, invoke, refused
from tests.benchmarks.test_cli import COMMANDS, loaded

CASE = ("run", *SMALL, "--scenario", "scratch", "--no-report", "--results")


@pytest.mark.parametrize("words", [("-q", *CASE), ("--quiet", *CASE), (CASE[0], "-q", *CASE[1:])], ids=str)
def test_quiet_leaves_the_table_alone(words: tuple[str, ...], tmp_path: Path) -> None:
    done = invoke(*words, tmp_path)
    assert done.exit_code == 0
    assert "reference" in done.stdout
    assert done.stderr == ""


def test_quiet_hides_the_line_of_a_shard_and_the_defaults_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.finetune-bench.run]\nshard = "1/1"\n')
    said = invoke(*CASE, tmp_path / "a", "--dry-run").stderr
    assert "shard 1/1: 1 of 1 cases" in said
    assert "defaults from" in said
    assert invoke("-q", *CASE, tmp_path / "b", "--dry-run").stderr == ""


def test_quiet_keeps_errors(tmp_path: Path) -> None:
    assert "does not exist" in refused("-q", "table", "--results", tmp_path / "none")


def test_without_it_progress_is_one_line_for_a_case(tmp_path: Path) -> None:
    assert "[1/1] reference/tiny-cnn/scratch/seed0: accuracy" in invoke(*CASE, tmp_path).stderr


def test_verbose_names_each_process_beside_the_progress(tmp_path: Path) -> None:
    done = invoke("-v", *CASE, tmp_path)
    lines = done.stderr.splitlines()
    assert any(line.startswith("+ process ") and " on 1 cores: " in line for line in lines)
    assert any(line.startswith("[1/1] reference/tiny-cnn/scratch/seed0: accuracy") for line in lines)
    assert "+ process" not in done.stdout


def test_verbose_ends_with_its_command(tmp_path: Path) -> None:
    before = STARTED.level, list(STARTED.handlers)
    invoke("-v", "list", "suites")
    assert (STARTED.level, list(STARTED.handlers)) == before
    assert not STARTED.isEnabledFor(logging.INFO)


def test_both_are_refused() -> None:
    assert "give either --quiet or --verbose" in refused("-q", "-v", "list", "suites")


def test_every_command_that_shows_progress_can_be_quiet() -> None:
    shown = {name for name in COMMANDS if "RunProgress" in Path(str(cli_module(name))).read_text()}
    assert shown
    assert shown <= {name for name in COMMANDS if any("--quiet" in one.opts for one in options(name))}


def cli_module(name: str) -> Path:
    return Path(cli.__file__).parents[1].joinpath(*cli.command_modules()[name].split(".")).with_suffix(".py")


def options(name: str) -> list[click.Parameter]:
    return loaded(name).params
