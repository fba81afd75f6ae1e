"""Split a plan into parts for several machines. Every machine computes the same split, without asking another one."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import click
import msgspec
from msgspec.structs import replace

from benchmarks.choosing.selection import SelectedCase
from harness import PROTOCOL
from harness.spec import key
from results.storage.rows import Shard, Unit

T = TypeVar("T")


class Share(NamedTuple):
    """The part `number` (from 1) of `parts` parts."""

    number: int
    parts: int


class ShareType(click.ParamType[Share]):
    """An option with a value such as `2/3`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Share:
        """Return the part. Any other value is a usage error, exit code 2."""
        found = re.fullmatch(r"(\d+)/(\d+)", value) if isinstance(value, str) else None
        share = Share(*map(int, found.groups())) if found else Share(0, 0)
        if not 1 <= share.number <= share.parts:
            self.fail(f"{value} must be K/N with K from 1 to N, such as 1/3, 2/3 and 3/3", param, ctx)
        return share


SHARE = ShareType()


class Item(NamedTuple, Generic[T]):
    """One thing of a plan: its label for people, its expected seconds, and everything that identifies it (as JSON).

    Items with an equal `together` are in one part.
    """

    value: T
    label: str
    seconds: float
    identity: object
    together: Hashable


def take(share: Share | None, items: Sequence[Item[T]], unit: Unit) -> tuple[list[T], Shard | None]:
    """Return the items of one part and say their number on stderr; without a share, return all items."""
    if share is None:
        return [item.value for item in items], None
    own, shard = part_of(share, items, unit)
    context = click.get_current_context(silent=True)
    if context is None or not context.params.get("quiet"):
        click.echo(f"shard {shard.name}: {len(own)} of {len(items)} {unit}", err=True)
    return own, shard


def part_of(share: Share, items: Sequence[Item[T]], unit: Unit) -> tuple[list[T], Shard]:
    """Return the items of one part, in their order, and what its run file says about the plan."""
    parts = [[items[place] for place in places] for places in split(items, share.parts)]
    content = [PROTOCOL, unit, [[item.identity for item in part] for part in parts]]
    shard = Shard(
        number=share.number,
        plan=hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16],
        unit=unit,
        labels=tuple(tuple(item.label for item in part) for part in parts),
    )
    return [item.value for item in parts[share.number - 1]], shard


def split(items: Sequence[Item[T]], count: int) -> list[list[int]]:
    """Return the positions of the items of each part: the longest group first, each to the part with the least time.

    The largest and the smallest sum differ by at most one group (Graham 1969).
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        groups[item.together].append(place)
    # The exact sum: that of `sum` depends on the version of Python.
    seconds = {name: math.fsum(items[place].seconds for place in places) for name, places in groups.items()}
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0.0] * count
    for name in sorted(groups, key=lambda name: -seconds[name]):
        least = sums.index(min(sums))
        parts[least] += groups[name]
        sums[least] += seconds[name]
    return [sorted(part) for part in parts]


def identity(selected: SelectedCase, *, threads: bool) -> tuple[object, ...]:
    """Return everything that identifies a selected case on any machine.

    A folder or file counts by its name, because machines may have it in different places. `threads` says whether the
    user gave their number; its default depends on the machine.
    """
    case = selected.case
    alike = replace(case, dataset=Path(case.dataset).name, threads=case.threads if threads else 0)
    checkpoint = selected.checkpoint and Path(selected.checkpoint).name
    return key(alike), checkpoint, *selected[2:]


def case_items(cases: Iterable[tuple[SelectedCase, float]], *, threads: bool = False) -> list[Item[SelectedCase]]:
    """Return the items of selected cases with their expected seconds; a case that occurs twice is one item.

    Cases that differ only in backend and seed are together if there are several backends: a ratio needs one machine,
    and one certificate covers them.
    """
    found = {(key(selected.case), *selected[1:]): (selected, seconds) for selected, seconds in cases}
    backends = defaultdict(set)
    for selected, _ in found.values():
        backends[twins(selected)].add(selected.case.backend_name)
    return [
        Item(
            value=selected,
            label=selected.case.label,
            seconds=seconds,
            identity=identity(selected, threads=threads),
            together=twins(selected) if len(backends[twins(selected)]) > 1 else place,
        )
        for place, (selected, seconds) in enumerate(found.values())
    ]


def twins(selected: SelectedCase) -> Hashable:
    """Return a value that is equal for cases that differ only in backend and seed."""
    return key(replace(selected.case, backend="", engine=None, seed=0)), *selected[1:]
