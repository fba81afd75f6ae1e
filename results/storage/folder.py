"""The folder that holds everything a run writes. Git ignores all of it but the accepted changes."""

from __future__ import annotations

from pathlib import Path

from harness.errors import Refused
from harness.whole_files import write_whole

RESULTS = Path("bench-results")
"""Where results are written and read unless a command names another folder."""
COMMITTED = "baselines"
"""The one folder below it that is to be committed."""
IGNORED = (
    f"# Made by finetune-bench: results stay out of git, accepted changes are to be committed.\n/*\n!/{COMMITTED}/\n"
)


class Unwritable(Refused):
    """The results folder takes no more; the message names it, the cause and the remedy. What was written is kept."""

    def __init__(self, place: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write results to {place} ({error.strerror or error}); free space there, or name another folder "
            "with --results; every complete row is kept"
        )


def write_below(results_dir: Path, target: Path, content: bytes) -> None:
    """Write a file below a results folder, whole or not at all, and wait for the disk. Raises `Unwritable`."""
    make_folder(results_dir, target.parent)
    try:
        write_whole(target, content, durable=True)
    except OSError as error:
        raise Unwritable(results_dir, error) from error


def make_folder(results_dir: Path, folder: Path) -> None:
    """Create a folder below a results folder; a new results folder gets a `.gitignore`. Raises `Unwritable`.

    A folder that already holds other files is somebody's own, and gets none.
    """
    ignore = results_dir / ".gitignore"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        if {file.name for file in results_dir.iterdir()} <= {COMMITTED}:
            ignore.write_text(IGNORED, encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(results_dir, error) from error
