"""Machines, versions and commands of the records, and the files for download."""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from harness import PROGRAM
from harness.errors import Refused
from harness.process.machine import Machine
from results.report.page_data import Material
from results.report.section import Grid, GridRow
from results.storage.objects import get_json
from results.tables.wording import plain

CARRIED = 600_000  # largest size of all downloads in bytes, compressed and encoded
LISTED = 2000  # largest number of processes for a download of their figures


class Download(NamedTuple):
    """A file in the page, as a data URI."""

    name: str
    words: str
    uri: str


def repeated(material: Material) -> list[str]:
    """Return the commands of the runs, each once, ready to be repeated."""
    return list(dict.fromkeys(plain(f"{PROGRAM} {shlex.join(run.row.command)}") for run in material.runs))


def environments(material: Material) -> Iterator[Grid]:
    """Yield the tables of machines and of installed versions, differing versions first."""
    keys = {run.row.machine: run.file.parents[2].name for run in material.runs}
    keys |= {node: "" for run in material.runs for node in run.row.nodes if node not in keys}
    machines = {name: _machine(material, name, key) for name, key in keys.items()}
    if machines:
        columns = ("machine", "processor", "cores", "memory, GiB", "accelerators")
        yield Grid("Machines", columns, tuple(GridRow(cells) for cells in dict.fromkeys(machines.values())), words=5)
    frame = material.frame
    known = frame[frame["environment"] != ""] if len(frame) else frame
    seen = known.drop_duplicates("environment")
    installed: dict[str, dict[str, str]] = dict(zip(seen["environment"], seen["versions"], strict=True))
    names = list(dict.fromkeys(name for versions in installed.values() for name in versions))
    differing = [name for name in names if len({versions.get(name) for versions in installed.values()}) > 1]
    if installed:
        order = [*differing, *(name for name in names if name not in differing)]
        used = {name: known.loc[known["environment"] == name, "backend_name"].unique() for name in installed}
        rows = tuple(
            GridRow((sha256, plain(", ".join(used[sha256])), *(plain(versions.get(name, "–")) for name in order)))
            for sha256, versions in installed.items()
        )
        caption = " – different: ".join(["Installed versions", *filter(None, [", ".join(differing)])])
        yield Grid(caption, ("environment", "backends", *order), rows, words=2 + len(order))


def _machine(material: Material, name: str, key: str) -> tuple[str, ...]:
    """Return the cells of a machine; the key of a cluster's node follows from its description."""
    try:
        facts: dict[str, Any] = get_json(material.results_dir, name)
    except Refused as error:
        return (plain(key), plain(str(error)), "–", "–", "–")
    key = key or msgspec.convert(facts, Machine).key
    gpus = ", ".join(facts.get("gpus") or ()) or "none"
    return tuple(plain(str(one)) for one in (key, facts.get("cpu"), facts.get("cores"), facts.get("memory_gib"), gpus))


def downloads(material: Material) -> tuple[list[Download], tuple[str, ...]]:
    """Return the downloads that are small enough for the page, and a sentence about the others."""
    found, room, left = [], CARRIED, []
    figures = _figures(material.frame)
    if figures and len(figures) * 4 / 3 <= room:
        room -= len(figures) * 4 // 3
        found.append(Download("processes.csv.gz", "the figures of every process, CSV", _uri(figures)))
    for run in material.runs:
        packed = gzip.compress(run.file.read_bytes(), mtime=0)
        if len(packed) * 4 / 3 <= room:
            room -= len(packed) * 4 // 3
            found.append(Download(f"{run.file.name}.gz", f"the records of run {run.row.run}, JSON lines", _uri(packed)))
        else:
            left.append(run.file)
    if not left:
        return found, ()
    names = ", ".join(plain(_within(file, material.results_dir)) for file in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return found, (f"Too large for this page: {names}{more} in the results folder.",)


def _figures(frame: pd.DataFrame) -> bytes:
    if not 0 < len(frame) <= LISTED:
        return b""
    short = frame.drop(columns=[name for name in ("step_us", "traits", "versions", "file") if name in frame])
    return gzip.compress(short.to_csv(index=False).encode(), mtime=0)


def _within(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name


def _uri(packed: bytes) -> str:
    return f"data:application/gzip;base64,{base64.b64encode(packed).decode()}"
