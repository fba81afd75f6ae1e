"""The command line as tests use it: in this process, or as a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from benchmarks.cli import main
from harness.running.record import Record
from results.storage.rows import EndRow, ProcessRow, Row, scan

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path(__file__).parent / "examples"
QUICK = ("--backend", "reference", "--image-size", "32", "--augment", "none", "--batch-size", "8", "--epochs", "1")
"""One case of six steps on 48 training images takes a tenth of a second, beside starting its worker."""
SMALL = (*QUICK, "--model", "tiny-cnn")


def invoke(*arguments: str | Path) -> Result:
    """Run a command here, `quickly`; an exception that is no exit goes on to the test."""
    result = CliRunner().invoke(main, quickly(*arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def quickly(*arguments: str | Path) -> list[str]:
    """The words of a command; `run` makes no page unless asked to, since that takes ten seconds."""
    unasked = arguments[0] == "run" and "--report" not in arguments
    return [*map(str, arguments), *(["--no-report"] if unasked else [])]


def refused(*arguments: str | Path) -> str:
    """The one line on stderr of a command that must be refused with 2, printing nothing else."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    told = ("Usage:", "Try ", "preparing ", "\n")
    lines = [line for line in result.stderr.splitlines() if not line.startswith(told) and line]
    assert len(lines) == 1, result.stderr
    return lines[0]


def start(*arguments: str | Path, **options: str) -> subprocess.Popen[str]:
    """Begin `python -m benchmarks` in a process group of its own, as a terminal would, and `quickly`."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *quickly(*arguments)],
        cwd=ROOT,
        env={**os.environ, **options},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has told them to ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )


def git(folder: Path, *arguments: str | Path) -> str:
    """What git says in a folder, without the settings and the repository of whoever runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    somebody = ("-c", "user.name=somebody", "-c", "user.email=some@body", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", "-C", folder, *somebody, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def checkout(folder: Path, *without: str) -> Path:
    """A copy of the project's packages as they are now, without the files named."""
    for package in ("harness", "backends", "benchmarks", "results"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "runs", "*.jsonl")
        )
    for name in without:
        (folder / name).unlink()
    return folder


def frozen_only(folder: Path) -> Path:
    """A copy of the project whose reference backend fails unless the backbone is frozen."""
    session = checkout(folder) / "backends" / "reference" / "session.py"
    step = "        logits, tape = self.network.forward("
    text = session.read_text()
    assert step in text
    session.write_text(text.replace(step, f"        assert stage.frozen == 'backbone'\n{step}", 1))
    return folder


def rows(results: Path) -> list[Row]:
    """Every row under a results folder, in order."""
    files = sorted(results.rglob("*.jsonl"))
    return [line.row for file in files for line in scan(file) if line.row is not None]


def records(results: Path) -> list[Record]:
    """Every record under a results folder, in order."""
    return [row.record for row in rows(results) if isinstance(row, ProcessRow)]


def endings(results: Path) -> list[str]:
    """How the runs under a results folder ended."""
    return [row.status for row in rows(results) if isinstance(row, EndRow)]
