"""The results folder, which holds everything a run writes. Git ignores all of it except accepted changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.errors import Refused
from harness.whole_files import write_whole

T = TypeVar("T")
RESULTS = Path("bench-results")
"""The default results folder."""
COMMITTED = "baselines"
"""The folder below it that belongs into git."""
IGNORED = f"# Made by finetune-bench: git ignores results; commit accepted changes.\n/*\n!/{COMMITTED}/\n"


def results_folder(path: Path) -> Path:
    """Return the results folder of a path: the one that holds a run or a folder of runs, or else the folder itself."""
    within = (path, *path.resolve().parents)
    folder = path if path.is_dir() else path.parent
    return next((place.parent for place in within if place.name == "runs"), folder)


class Unwritable(Refused):
    """The results folder is not writable. The message names folder, cause and remedy; complete rows are kept."""

    def __init__(self, place: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write results to {place} ({error.strerror or error}); complete rows are kept; free space there, "
            "or name another folder with --results"
        )


def write_below(results_dir: Path, target: Path, content: bytes) -> None:
    """Write a file below a results folder atomically and wait for the disk. Raises `Unwritable`."""
    make_folder(results_dir, target.parent)
    try:
        write_whole(target, content, durable=True)
    except OSError as error:
        raise Unwritable(results_dir, error) from error


def write_by_content(results_dir: Path, folder: Path, value: Any) -> Path:
    """Write a value as JSON into a folder below, named by sixteen hex digits of its content. Raises `Unwritable`."""
    content = msgspec.json.encode(value)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    write_below(results_dir, path, content)
    return path


def read_each(folder: Path, kind: type[T], what: str, remedy: str) -> Iterator[T]:
    """Yield the values of all JSON files below a folder, by path. Raises `Refused` for a file that is not `what`."""
    for path in sorted(folder.rglob("*.json")):
        try:
            yield msgspec.json.decode(path.read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise Refused(f"{path} is not {what} ({error}); {remedy}") from error


def make_folder(results_dir: Path, folder: Path) -> None:
    """Create a folder below a results folder; an empty results folder gets a `.gitignore`. Raises `Unwritable`."""
    ignore = results_dir / ".gitignore"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        if {file.name for file in results_dir.iterdir()} <= {COMMITTED}:
            ignore.write_text(IGNORED, encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(results_dir, error) from error
