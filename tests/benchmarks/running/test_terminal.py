"""Every command prints under every encoding; what an encoding lacks is replaced by something readable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import command_modules, main
from benchmarks.running.terminal import STAND_INS, plain
from tests.benchmarks.commanding import ROOT
from tests.benchmarks.conftest import Finished

ENCODINGS = pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
NAMES = sorted(command_modules())


def printed(encoding: str, *arguments: str | Path) -> tuple[Result, str]:
    """The result of a command on a terminal of that encoding, and what stands on the terminal."""
    result = CliRunner(charset=encoding).invoke(main, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result, result.stdout_bytes.decode(encoding) + result.stderr_bytes.decode(encoding)


@ENCODINGS
def test_every_help_is_printed(encoding: str) -> None:
    texts = [printed(encoding, *name, "--help")[1] for name in ([], *([name] for name in NAMES))]
    assert all("--help" in text and "\\u" not in text for text in texts)
    several = next(text for text in texts if "number of seeds" in text)
    assert ("0, 1, …" if encoding in ("utf-8", "cp1252") else "0, 1, ...") in " ".join(several.split())


@ENCODINGS
@pytest.mark.parametrize("format_", ["text", "markdown"])
def test_a_table_is_printed(encoding: str, format_: str, finished: Finished) -> None:
    result, text = printed(encoding, "table", "--results", finished.results, "--format", format_)
    assert result.exit_code == 0, text
    assert "\\u" not in text
    assert ("±" if encoding != "ascii" else "+/-") in text
    assert "tiny-cnn" in text


@ENCODINGS
def test_data_for_programs_is_the_same_everywhere(encoding: str, finished: Finished) -> None:
    for arguments in (("table", "--format", "json"), ("table", "--format", "csv"), ("history", "--format", "json"),
                      ("export", "--to", "csv")):  # fmt: skip
        name, *options = arguments
        result, _ = printed(encoding, name, "--results", finished.results, *options)
        wanted, _ = printed("utf-8", name, "--results", finished.results, *options)
        assert result.stdout_bytes == wanted.stdout_bytes
        if "json" in options:
            msgspec.json.decode(result.stdout_bytes)


@ENCODINGS
def test_a_model_and_a_dataset_are_shown(encoding: str, images: Path, tmp_path: Path) -> None:
    result, text = printed(encoding, "show", "tiny-cnn", "--image-size", "32")
    assert result.exit_code == 0, text
    assert ("8×16×16" if encoding != "ascii" else "8x16x16") in text
    accented = shutil.copytree(images, tmp_path / "trois couleurs é ≠")
    result, text = printed(encoding, "show", accented, "--image-size", "32")
    assert result.exit_code == 0, text
    wanted = {"ascii": r"trois couleurs \xe9 !=", "utf-8": "trois couleurs é ≠"}
    assert wanted.get(encoding, "trois couleurs é !=") in text


@pytest.mark.parametrize(
    ("environment", "encoding"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
        ({"PYTHONIOENCODING": "ascii:strict"}, "ascii"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "ascii"),
    ],
)
def test_the_program_itself_prints_under_another_encoding(environment: dict[str, str], encoding: str) -> None:
    for words in (("benchmarks", "run", "--help"), ("benchmarks", "run", "--model", "résnet18"),
                  ("benchmarks.studies.false_alarms", "--help")):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"} | environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == (2 if "--model" in words else 0), done.stderr
        assert b"Traceback" not in done.stderr
        (done.stdout + done.stderr).decode(encoding)


def test_every_character_has_a_stand_in_of_ascii() -> None:
    assert "".join(STAND_INS.values()).isascii()
    assert plain("× – … ≠ ± · µ") == "x - ... != +/- - u"
    assert plain("1488¹ 10⁶ (1)²³") == "1488^1 10^6 (1)^23"
    assert plain("naïve") == "na\\xefve"
    assert plain("\udcff") == "\\udcff"


def test_every_character_that_the_program_uses_has_a_stand_in() -> None:
    for package in ("benchmarks", "results", "harness"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if file.name != "terminal.py":
                assert "\\" not in plain("".join(character for character in text if not character.isascii())), file
