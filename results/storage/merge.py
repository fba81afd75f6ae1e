"""Results of several machines in one folder: runs and objects are copied, united where both have them, never lost."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from harness.errors import Refused
from harness.whole_files import PARTIAL
from results.storage.folder import write_below
from results.storage.run_files import being_written


class Merged(NamedTuple):
    """What a merge did: files that are new, files that grew, and those that were there already."""

    copied: int
    extended: int
    known: int


def merge(into: Path, sources: list[Path]) -> Merged:
    """Bring the runs, objects, certificates and logs of `sources` into `into`; doing it again changes nothing.

    A run's file that exists in both is the longer one if the shorter is its beginning. Raises `Refused`, before
    anything is written, with the names of two files of one run that differ, or of an object that is not what its name
    says.
    """
    homes: dict[Path, list[Path]] = defaultdict(list)
    for source in sources:
        for file in _files(source):
            _refuse_changed(source, file)
            homes[into / file.relative_to(source)].append(file)
    longest = {target: _longest(target, files) for target, files in homes.items()}
    copied = extended = known = 0
    for target, file in longest.items():
        if file == target:
            known += 1
            continue
        before = target.exists()
        write_below(into, target, file.read_bytes())
        copied, extended = copied + (not before), extended + before
    return Merged(copied, extended, known)


def _files(source: Path) -> Iterator[Path]:
    if not (source / "runs").is_dir():
        raise Refused(f"{source} holds no runs; name a results folder, as given to `run` with --results")
    for kind in ("runs", "objects", "certificates", "logs"):
        yield from sorted(file for file in (source / kind).rglob("*") if file.is_file() and file.suffix != PARTIAL)


def _refuse_changed(source: Path, file: Path) -> None:
    is_object = file.relative_to(source).parts[0] == "objects"
    if is_object and hashlib.sha256(file.read_bytes()).hexdigest() != file.stem:
        raise Refused(f"{file} was changed after it was written (its SHA-256 differs); restore it or leave it out")


def _longest(target: Path, files: list[Path]) -> Path:
    """Of all files with one name, the target's own among them, the one that the others are beginnings of."""
    own = [target] if target.exists() else []
    if own and target.suffix == ".jsonl" and being_written(target):
        raise Refused(f"{target} is being written by another process; merge when its run is over")
    ordered = sorted([*own, *files], key=lambda file: file.stat().st_size)
    for short, long in pairwise(ordered):
        if not long.read_bytes().startswith(short.read_bytes()):
            raise Refused(f"{short} and {long} are one run and differ; one of them was edited")
    size = ordered[-1].stat().st_size
    return target if own and target.stat().st_size == size else ordered[-1]
