"""Results of several machines in one folder: runs and objects are copied, united where both have them, never lost."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.errors import Refused
from results.objects import Unwritable


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
    plan = [(source, file, into / file.relative_to(source)) for source in sources for file in _files(source)]
    for source, file, target in plan:
        _check(source, file, target)
    copied = extended = known = 0
    for _, file, target in plan:
        content = file.read_bytes()
        before = target.read_bytes() if target.exists() else None
        if before is not None and len(content) <= len(before):
            known += 1
            continue
        _write(into, target, content)
        copied, extended = copied + (before is None), extended + (before is not None)
    return Merged(copied, extended, known)


def _files(source: Path) -> Iterator[Path]:
    if not (source / "runs").is_dir():
        raise Refused(f"{source} holds no runs; name a results folder, as given to `run` with --results")
    for kind in ("runs", "objects", "certificates", "logs"):
        yield from sorted(file for file in (source / kind).rglob("*") if file.is_file() and file.suffix != ".partial")


def _check(source: Path, file: Path, target: Path) -> None:
    content = file.read_bytes()
    kind = file.relative_to(source).parts[0]
    if kind == "objects" and hashlib.sha256(content).hexdigest() != file.stem:
        raise Refused(f"{file} was changed after it was written (its SHA-256 differs); restore it or leave it out")
    if not target.exists():
        return
    short, long = sorted((content, target.read_bytes()), key=len)
    if not long.startswith(short):
        raise Refused(f"{file} and {target} are one run and differ; one of them was edited")


def _write(into: Path, target: Path, content: bytes) -> None:
    partial = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Unwritable(into, error) from error
