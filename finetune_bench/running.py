"""Run cases and comparisons in another process, as the commands `run` and `compare` do."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from benchmarks.running.own_process import start_program
from harness.errors import Declined, Refused
from results.storage.comparison import Comparison
from results.storage.folder import RESULTS
from results.storage.run_files import run_files
from results.tables.load import load
from results.verdicts.stored_comparisons import read_comparisons

OptionValue: TypeAlias = str | int | float | bool | Path | None
Options: TypeAlias = OptionValue | Sequence[str | int | float | Path]


def run(*, results: str | Path = RESULTS, **options: Options) -> pd.DataFrame:
    """Run cases, store their records in a results folder, and return them as `load` does: a row per process.

    The options are those of the command `run`, with underscores: `run(backend="pytorch", scenario=["full", "scratch"])`
    is `run --backend pytorch --scenario full --scenario scratch`. A case that failed or was skipped is a row with its
    status and reason. Nothing is printed. Do not run two of them in one folder at the same time: each would return the
    records of both. Raises `Refused` for wrong options, `Declined` if nothing was measured.
    """
    files, _ = _records_of("run", (), Path(results), options)
    return pd.concat([load(file) for file in files], ignore_index=True)


def compare(*sides: str, results: str | Path = RESULTS, **options: Options) -> list[Comparison]:
    """Compare two backends, environments or settings case by case, and return the stored comparisons.

    The sides and the options are those of the command `compare`: `compare("pytorch", "keras3", model="resnet18")`, or
    `compare(set="B.precision=bf16")`. A case that could not be measured is a warning. Raises `Refused` for wrong
    options, `Declined` if nothing was measured.
    """
    files, problems = _records_of("compare", sides, Path(results), options)
    found = [one.comparison for file in files for one in read_comparisons(file) if one.comparison is not None]
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    if not found:
        raise Declined("; ".join(problems) or "nothing was compared")
    return found


def _records_of(
    command: str, sides: Sequence[str], results: Path, options: Mapping[str, Options]
) -> tuple[list[Path], list[str]]:
    """Run a command, and return the files of runs that it wrote, and its error messages."""
    before = _sizes(results)
    words = [word for name, value in options.items() for word in _words(name, value)]
    with start_program(command, "--quiet", "--results", str(results), *words, "--", *sides) as process:
        try:
            _, stderr = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # a notebook interrupts only its own process
            raise
    lines = [line for line in stderr.splitlines() if line.lower().startswith("error: ")]
    problems = [line.partition(": ")[2] for line in lines]
    changed = [file for file, size in _sizes(results).items() if before.get(file) != size]
    if process.returncode == 2:
        raise Refused("; ".join(problems) or stderr.strip())
    if not changed:
        raise Declined("; ".join(problems) or stderr.strip() or f"{command} exited with {process.returncode}")
    return changed, problems


def _sizes(results: Path) -> dict[Path, int]:
    return {file: file.stat().st_size for file in run_files(results)}


def _words(name: str, value: Options) -> Iterator[str]:
    """Yield an option as words of the command line.

    >>> list(_words("image_size", 32)), list(_words("report", False)), list(_words("model", ["a", "b"]))
    (['--image-size', '32'], ['--no-report'], ['--model', 'a', '--model', 'b'])
    """
    option = name.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        yield f"--{option}" if value else f"--no-{option}"
    elif isinstance(value, str | int | float | Path):
        yield from (f"--{option}", str(value))
    elif value is not None:
        yield from (word for one in value for word in (f"--{option}", str(one)))
