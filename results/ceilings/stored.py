"""Ceilings in a results folder: `ceilings/<machine>/<sixteen hex digits of the content>.json`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from harness.ceiling.ceiling import Ceiling
from harness.errors import Refused
from results.storage.folder import write_below

FOLDER = "ceilings"


def write_ceiling(results_dir: Path, ceiling: Ceiling) -> Path:
    """Store a ceiling beside earlier ones and return its path. Raises `Unwritable`."""
    content = msgspec.json.encode(ceiling)
    path = results_dir / FOLDER / ceiling.machine / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    write_below(results_dir, path, content)
    return path


def read_ceilings(results_dir: Path) -> tuple[Ceiling, ...]:
    """Read the ceilings of a results folder. Raises `Refused` for a file that is no ceiling."""
    return tuple(map(_read, sorted((results_dir / FOLDER).rglob("*.json"))))


def _read(path: Path) -> Ceiling:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ceiling)
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is not a ceiling ({error}); delete it and run `doctor --ceiling` again") from error
