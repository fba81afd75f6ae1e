from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from benchmarks import cli
from benchmarks.choosing.options import SELECTION, GroupedOption
from benchmarks.choosing.selection import Selection
from benchmarks.cli import main
from finetune_bench.__main__ import main as program
from harness.errors import Declined, Refused
from results.storage.folder import RESULTS
from tests.benchmarks.commanding import ROOT, invoke, refused

COMMANDS = sorted(cli.command_modules())


def test_every_module_of_commands_is_a_command() -> None:
    assert {"run", "list", "show", "prepare", "table", "predict", "cache", "doctor"} <= set(COMMANDS)
    listed = invoke("--help").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


def loaded(name: str) -> click.Command:
    command: click.Command = importlib.import_module(cli.command_modules()[name]).command
    return command


def test_the_first_sentence_of_a_command_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = invoke("--help").stdout
    for name in COMMANDS:
        sentence = (loaded(name).help or "").partition(". ")[0].partition("\n\n")[0]
        assert f"  {sentence.rstrip('.')}\n" in listed, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_of_a_command_has_help(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    for parameter in loaded(name).params:
        assert isinstance(parameter, click.Option | click.Argument)
        assert parameter.help, parameter.name
        assert parameter.help[:1] != " "
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in result.stdout
            assert isinstance(parameter, GroupedOption), parameter.name
        # What click makes of a type it does not know fails as soon as the option is given.
        assert not isinstance(parameter.type, click.types.FuncParamType), parameter.name


def test_the_options_of_a_run_are_listed_by_what_they_are_about() -> None:
    sections = re.split(r"^(\S.+):\n", invoke("run", "--help").stdout, flags=re.MULTILINE)
    found = {heading: set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)) for heading, text in pairs(sections)}
    assert list(found) == [
        "What to run", "How to train", "How to compute", "How to measure", "Results and output", "Options"
    ]  # fmt: skip
    for heading, name in (
        ("What to run", "--model"), ("How to train", "--epochs"), ("How to compute", "--threads"),
        ("How to measure", "--warmup-steps"), ("Results and output", "--results"),
    ):  # fmt: skip
        assert name in found[heading]
        assert sum(name in names for names in found.values()) == 1


def pairs(sections: list[str]) -> list[tuple[str, str]]:
    return list(zip(sections[1::2], sections[2::2], strict=True))


def test_a_group_names_fields_of_a_selection() -> None:
    named = [name for names in SELECTION.values() for name in names]
    assert len(named) == len(set(named))
    assert set(named) <= set(Selection.__struct_fields__)


def test_the_folder_of_results_is_one_option_of_every_command_that_has_it() -> None:
    found = [one for name in COMMANDS for one in loaded(name).params if "--results" in one.opts]
    assert len(found) > 10
    assert {(one.name, str(one.default), one.help) for one in found} == {("results", str(RESULTS), "folder of results")}
    folders = [one.name for name in COMMANDS for one in loaded(name).params if isinstance(one, click.Argument)]
    assert not {"path", "into", "results"} & {*folders}


def test_options_have_the_names_of_the_field_and_no_old_ones() -> None:
    names = {opt for name in COMMANDS for one in loaded(name).params for opt in one.opts}
    assert {"--target-accuracy", "--confidence", "--max-loss", "--no-cache"} <= names
    assert not {"--target", "--sure", "--up-to", "--fresh"} & names


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
    assert not {"torch", "torchvision", "tensorflow", "keras", "jax", "pandas", "scipy.stats"} & loaded
    asked = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert b"Exit codes" in asked.stdout


def test_a_command_that_measures_imports_statistics_for_its_verdict_only() -> None:
    commands = ["advise", "bisect", "compare", "explain", "gate", "noise", "scaling", "tune"]
    code = f"import sys; from benchmarks.cli import main; [main([c, '-h'], standalone_mode=False) for c in {commands}]"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {f"benchmarks.commands.measuring.{name}" for name in commands} <= loaded
    assert not {"scipy.stats", "statsmodels"} & loaded


def test_main_is_what_the_console_script_names() -> None:
    assert 'finetune-bench = "finetune_bench.__main__:main"' in (ROOT / "pyproject.toml").read_text()
    assert isinstance(main, click.Group)
    assert program is main
