"""Name what is missing of a plan that several machines run in parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from results.storage.rows import EndRow, ProcessRow, RunRow, Shard, VerdictRow, scan


class Gap(NamedTuple):
    """The labels of a part that have no record. `begun` says whether there is a run file of this part."""

    shard: Shard
    missing: tuple[str, ...]
    begun: bool

    def __str__(self) -> str:
        """Return one sentence, with an example and the remedy."""
        count, unit = len(self.missing), self.shard.unit
        many = f"{count} {unit if count > 1 else unit.removesuffix('s')}, e.g. {self.missing[0]}"
        if not self.begun:
            return f"shard {self.shard.name} is missing: {many}"
        return f"shard {self.shard.name} has no result of {many}; run --shard {self.shard.name} again"


def gaps(files: Iterable[Path]) -> list[Gap]:
    """Return what is missing of each plan that these run files are parts of.

    Several files of one part complete each other: an interrupted run and a later one, also on another machine.
    """
    done = _done_by_part(files)
    plans = {shard.plan: shard for shard in done}
    found = []
    for plan in plans.values():
        for number, labels in enumerate(plan.labels, 1):
            shard = replace(plan, number=number)
            lost = tuple(label for place, label in enumerate(labels) if place not in done.get(shard, ()))
            if lost:
                found.append(Gap(shard, lost, shard in done))
    return found


def is_complete(files: Iterable[Path], shard: Shard) -> bool:
    """Tell whether the files hold every result of this part; an empty part needs a file too."""
    places = _done_by_part(files).get(shard)
    return places is not None and len(places) == len(shard.own)


def _done_by_part(files: Iterable[Path]) -> dict[Shard, set[int]]:
    done: dict[Shard, set[int]] = defaultdict(set)
    for file in files:
        first = next((line.row for line in scan(file)), None)
        if isinstance(first, RunRow) and first.shard is not None:
            done[first.shard] |= _done(file, first, first.shard)
    return dict(done)


def _done(file: Path, first: RunRow, shard: Shard) -> set[int]:
    """Return the places in `shard.own` of which the file has the result."""
    rows = [line.row for line in scan(file)]
    if shard.unit == "scenarios":
        ended = any(isinstance(row, EndRow) and row.status == "done" for row in rows)
        return set(range(len(shard.own))) if ended else set()
    if shard.unit == "cases":
        keys = {row.record.key for row in rows if isinstance(row, ProcessRow) and row.settled}
        return {place for place, key in enumerate(first.planned) if key in keys}
    verdicts = {row.comparison.name: row.comparison.label for row in rows if isinstance(row, VerdictRow)}
    return set(_places(shard.own, Counter(verdicts.values())))


def _places(labels: Iterable[str], measured: Counter[str]) -> Iterator[int]:
    for place, label in enumerate(labels):
        if measured[label]:
            measured[label] -= 1
            yield place
