"""Ceilings in a results folder: `ceilings/<machine>/<sixteen hex digits of the content>.json`."""

from __future__ import annotations

from pathlib import Path

from harness.ceiling.ceiling import Ceiling
from results.storage.folder import read_each, write_by_content

FOLDER = "ceilings"


def write_ceiling(results_dir: Path, ceiling: Ceiling) -> Path:
    """Store a ceiling beside earlier ones and return its path. Raises `Unwritable`."""
    return write_by_content(results_dir, results_dir / FOLDER / ceiling.machine, ceiling)


def read_ceilings(results_dir: Path) -> tuple[Ceiling, ...]:
    """Read the ceilings of a results folder. Raises `Refused` for a damaged file."""
    return tuple(read_each(results_dir / FOLDER, Ceiling, "a ceiling", "delete it and run `doctor --ceiling` again"))
