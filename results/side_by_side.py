"""Backends beside each other, and the one place that says whether a ratio between two of them may be printed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from results.metric import METRICS

ROW = ("dataset", "model", "scenario", "image_size", "device", "precision", "layout", "compile", "input", "threads",
       "head", "idiom", "epochs", "augment", "limit", "machine", "protocol")  # fmt: skip
"""What two cells of one line agree in."""


class Permission(NamedTuple):
    """Whether two figures may be divided by each other; if not, `reason` is one or two words behind a `≠`."""

    allowed: bool
    reason: str = ""


class Line(NamedTuple):
    """One line: what its cells share, a row of `table` per backend that has one, and per backend why there is no ratio.

    `ratios` are of a backend's figure over that of the first backend named.
    """

    shared: dict[str, Any]
    cells: dict[str, Mapping[Hashable, Any]]
    ratios: dict[str, float | str]


def may_compare(one: Mapping[Hashable, Any], other: Mapping[Hashable, Any], metric: str) -> Permission:
    """Whether `metric` of two rows of `table` may be shown as a ratio (V01, V02, V43, V52).

    There are no certificates yet, so nothing is allowed: what `certify` proves will be looked up here alone.
    """
    for field, word in (("protocol", "protocol"), ("dataset_sha256", "data"), ("idiom", "idiom")):
        if _differs(one, other, field):
            return Permission(False, word)
    if _differs(one, other, "backbone_parameters"):
        return Permission(False, "architecture")
    if _differs(one, other, "checkpoint_sha256"):
        return Permission(False, "checkpoint")
    if METRICS[metric].unit in ("s", "ms", "images/s") and _differs(one, other, "wall_parts"):
        return Permission(False, "parts of time")
    return Permission(False, "no certificate")


def side_by_side(table: pd.DataFrame, metric: str = "throughput") -> list[Line]:
    """Lines by model and scenario with a cell per backend; cases of one backend that differ have a line each.

    Only `ok` rows stand here. The backends are `backends(table)`, in that order.
    """
    good = table[table["status"] == "ok"]
    lines: dict[tuple[Any, ...], Line] = {}
    taken: dict[tuple[Any, ...], int] = {}
    for row in good.to_dict("records"):
        shared = {name: row[name] for name in ROW}
        agreed = tuple(None if pd.isna(value) else value for value in shared.values())
        backend = row["backend_name"]
        turn = taken[(*agreed, backend)] = taken.get((*agreed, backend), -1) + 1
        lines.setdefault((*agreed, turn), Line(shared, {}, {})).cells[backend] = row
    for line in lines.values():
        line.ratios.update(_ratios(line, backends(table), metric))
    return list(lines.values())


def backends(table: pd.DataFrame) -> list[str]:
    """Names of the backends that have an `ok` row, in the order of the table."""
    return list(dict.fromkeys(table.loc[table["status"] == "ok", "backend_name"]))


def _ratios(line: Line, names: Sequence[str], metric: str) -> dict[str, float | str]:
    present = [name for name in names if name in line.cells]
    if len(present) < 2:
        return {present[0]: f"≠ only {present[0]}"} if len(names) > 1 else {}
    reference = line.cells[present[0]]
    ratios: dict[str, float | str] = {}
    for name in present[1:]:
        permission = may_compare(reference, line.cells[name], metric)
        allowed, reason = permission
        ratios[name] = line.cells[name][metric] / reference[metric] if allowed else f"≠ {reason}"
    return ratios


def _differs(one: Mapping[Hashable, Any], other: Mapping[Hashable, Any], field: str) -> bool:
    a, b = (None if pd.isna(row[field]) else row[field] for row in (one, other))
    return bool(a != b)
