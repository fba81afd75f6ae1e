"""Merge the results of several machines into one folder, without losing a run or an object."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from harness.errors import Refused
from harness.whole_files import PARTIAL
from results.storage.folder import write_below
from results.storage.run_files import being_written

KINDS = ("runs", "objects", "certificates", "ceilings", "explanations", "logs")
"""The folders of a results folder that a merge copies."""


class Merged(NamedTuple):
    """The numbers of files that a merge copied, extended, and left unchanged."""

    copied: int
    extended: int
    known: int


def merge(into: Path, sources: list[Path], kinds: Sequence[str] = KINDS) -> Merged:
    """Copy the folders `kinds` of `sources` to `into`; a second merge changes nothing.

    The longer of two files of one run is kept if it begins with the shorter one. Raises `Refused`, before anything is
    written, for two files of one run that differ and for an object that does not match its name.
    """
    homes: dict[Path, list[Path]] = defaultdict(list)
    for source in sources:
        for file in _files(source, kinds):
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


def _files(source: Path, kinds: Sequence[str]) -> Iterator[Path]:
    if not (source / "runs").is_dir():
        raise Refused(f"{source} holds no runs; name the results folder of a run (--results)")
    for kind in kinds:
        yield from sorted(file for file in (source / kind).rglob("*") if file.is_file() and file.suffix != PARTIAL)


def _refuse_changed(source: Path, file: Path) -> None:
    is_object = file.relative_to(source).parts[0] == "objects"
    if is_object and hashlib.sha256(file.read_bytes()).hexdigest() != file.stem:
        raise Refused(f"{file} was changed after it was written (its SHA-256 differs); restore it or leave it out")


def _longest(target: Path, files: list[Path]) -> Path:
    """Return the longest file with this name, the target included, if it begins with every other one."""
    present = [target] if target.exists() else []
    if present and target.suffix == ".jsonl" and being_written(target):
        raise Refused(f"{target} is being written by another process; merge after its run")
    ordered = sorted([*present, *files], key=lambda file: file.stat().st_size)
    for short, long in pairwise(ordered):
        if not long.read_bytes().startswith(short.read_bytes()):
            raise Refused(f"{short} and {long} belong to one run but differ; one of them was edited")
    return target if present and target.stat().st_size == ordered[-1].stat().st_size else ordered[-1]
