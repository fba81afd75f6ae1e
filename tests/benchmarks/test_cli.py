from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from benchmarks import cli
from benchmarks.cli import main
from harness.errors import Declined, Refused
from tests.benchmarks.commanding import ROOT, invoke, refused

COMMANDS = sorted(cli.command_modules())


def test_every_module_of_commands_is_a_command() -> None:
    assert {"run", "list", "show", "prepare", "table", "predict", "cache", "doctor"} <= set(COMMANDS)
    listed = invoke("--help").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_every_option_of_it_a_line(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    command = importlib.import_module(cli.command_modules()[name]).command
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in result.stdout
            # What click makes of a type it does not know fails as soon as the option is given.
            assert not isinstance(parameter.type, click.types.FuncParamType), parameter.name


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    assert "did you mean predict" in refused("predct")


def test_the_version_is_told() -> None:
    assert invoke("--version").stdout.startswith("finetune-bench, version ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Refused("the folder is empty"), 2, "error: the folder is empty"),
        (Refused("no file two\nlines\x1b[2J.pth"), 2, r"error: no file two\nlines\x1b[2J.pth"),
        (Declined("no GPU here"), 3, "error: no GPU here"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_harness_says_no_to_is_one_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    @click.group(cls=cli.Commands, invoke_without_command=True)
    def group() -> None:
        raise error

    result = CliRunner().invoke(group, [])
    assert (result.exit_code, result.stderr.strip(), result.stdout) == (code, line, "")


def test_an_error_of_ours_is_not_dressed_up() -> None:
    @click.group(cls=cli.Commands, invoke_without_command=True)
    def group() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(group, []).exception, ZeroDivisionError)


def test_the_module_can_be_run_and_imports_no_framework_to_help() -> None:
    code = "import sys; from benchmarks.cli import main; main(['run', '--help'], standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "benchmarks.commands.measuring.run" in loaded
    assert not {"torch", "torchvision", "tensorflow", "keras", "jax"} & loaded
    asked = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert b"Exit codes" in asked.stdout


def test_main_is_what_the_console_script_names() -> None:
    assert 'finetune-bench = "benchmarks.cli:main"' in (ROOT / "pyproject.toml").read_text()
    assert isinstance(main, click.Group)
