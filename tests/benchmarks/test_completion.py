"""Completion in a shell: the scripts of the page, and what Tab offers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import cli
from benchmarks.cli import main
from tests.benchmarks.commanding import ROOT

PAGE = (ROOT / "docs" / "how-to" / "pipeline.md").read_text()
VARIABLE = "_FINETUNE_BENCH_COMPLETE"


def asked(instruction: str, **environment: str) -> str:
    """What the program `finetune-bench` prints for a shell."""
    done = CliRunner().invoke(main, [], prog_name="finetune-bench", env={VARIABLE: instruction, **environment})
    assert done.exit_code == 0, done.output
    return done.stdout


def offered(words: str) -> set[str]:
    lines = asked("bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))).splitlines()
    return {line.partition(",")[2] for line in lines}


def test_the_page_names_the_variable_of_the_program() -> None:
    assert set(re.findall(rf"{VARIABLE}=(\w+) finetune-bench", PAGE)) == {"bash_source", "zsh_source", "fish_source"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_of_a_shell_is_printed_and_is_valid_there(shell: str, tmp_path: Path) -> None:
    # In a process, because click asks bash for its version there.
    code = "from finetune_bench.__main__ import main; main([], prog_name='finetune-bench')"
    environment = {VARIABLE: f"{shell}_source", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "_finetune_bench_completion" in done.stdout
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    script = tmp_path / "script"
    script.write_text(done.stdout)
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n", script], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_a_tab_offers_commands_options_and_values() -> None:
    assert offered("finetune-bench ") == set(cli.command_modules())
    assert offered("finetune-bench ta") == {"table"}
    assert {"--json", "--format", "--results"} <= offered("finetune-bench table --")
    assert offered("finetune-bench table --format ") == {"text", "markdown", "csv", "json", "parquet"}


def test_a_tab_is_not_disturbed_by_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.finetune-bench\n")
    assert offered("finetune-bench ta") == {"table"}
