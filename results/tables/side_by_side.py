"""Backends side by side, and the decision whether the ratio of two rows may be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.rules import Breach
from results.certificates.certificate import Certificate
from results.certificates.scope import coverage_of, subject_of_row
from results.rules.pair_rules import read_traits, unlike
from results.statistics import ratio_interval
from results.tables.columns import METRICS, Row, key_of
from results.tables.identity import alike

ROW = [name for name in alike("backend_name") if name != "dataset_sha256"]
"""Columns that are equal in all cells of a line. Native defaults may differ in layout; other data give a `≠`."""


class Ratio(NamedTuple):
    """The figure of a backend divided by that of the first backend of the line, with the certificate of both.

    `low` and `high` are the 95 % interval of a ratio of throughputs (`results.statistics.ratio_interval`); NaN for
    other figures, and where a side has fewer than two processes.
    """

    value: float
    low: float
    high: float
    certificate: Certificate
    level: int


class ComparedRow(NamedTuple):
    """One line: common columns, a row of `table` per backend, and a ratio or a reason per backend after the first."""

    shared: dict[str, Any]
    cells: dict[str, Row]
    ratios: dict[str, Ratio | Breach | str]


def may_compare(
    one: Row, other: Row, metric: str, certificates: Sequence[Certificate] = ()
) -> Certificate | Breach | str:
    """Return the certificate that allows a ratio of `metric` between two rows of `table`, or the reason against it.

    A reason is a few words, or a breach of a rule of `results.rules.pair_rules`.
    """
    reasons = {
        "different protocol": _differs(one, other, "protocol"),
        "different data": _differs(one, other, "dataset_sha256"),
        "native defaults": any("native defaults" in row["marks"] for row in (one, other)),
        "different architecture": _differs(one, other, "backbone_parameters"),
        "different checkpoint": _differs(one, other, "checkpoint_sha256"),
    }
    if reason := next((words for words, holds in reasons.items() if holds), ""):
        return reason
    timed = METRICS[metric].unit in ("s", "ms", "images/s")
    if breach := unlike(read_traits(one["traits"]), read_traits(other["traits"]), timed=timed):
        return breach
    if pd.isna(one[metric]) or pd.isna(other[metric]):
        return "no figure on one side"
    found = coverage_of(subject_of_row(one), subject_of_row(other), certificates)
    return found.certificate or found.reason


def side_by_side(
    table: pd.DataFrame, metric: str = "throughput", certificates: Sequence[Certificate] = ()
) -> list[ComparedRow]:
    """Arrange the `ok` rows in lines by model and scenario, with a cell for each of `backends(table)`.

    Different cases of one backend have a line each.
    """
    good = table[table["status"] == "ok"]
    lines: dict[tuple[Any, ...], ComparedRow] = {}
    taken: dict[tuple[Any, ...], int] = {}
    for row in good.to_dict("records"):
        shared = {name: row[name] for name in ROW}
        if row["idiom"]:
            shared["layout"] = None
        agreed = key_of(shared, ROW)
        backend = row["backend_name"]
        turn = taken[(*agreed, backend)] = taken.get((*agreed, backend), -1) + 1
        lines.setdefault((*agreed, turn), ComparedRow(shared, {}, {})).cells[backend] = row
    for line in lines.values():
        line.ratios.update(_ratios(line, backends(table), metric, certificates))
    return list(lines.values())


def unproved(table: pd.DataFrame, certificates: Sequence[Certificate]) -> list[str]:
    """Return a sentence for each pair of figures without a ratio."""
    return [
        f"{line.shared['model']} {line.shared['scenario']}: {withheld(ratio)} ({name})"
        for line in side_by_side(table, "throughput", certificates)
        for name, ratio in line.ratios.items()
        if not isinstance(ratio, Ratio) and len(line.cells) > 1
    ]


def withheld(reason: Breach | str, *, ids: bool = True) -> str:
    """Return why there is no ratio, with or without the id of the rule."""
    return reason if isinstance(reason, str) else f"{reason.text} ({reason.rule})" if ids else reason.text


def backends(table: pd.DataFrame) -> list[str]:
    """Return the names of the backends with an `ok` row, in the order of the table."""
    return list(dict.fromkeys(table.loc[table["status"] == "ok", "backend_name"]))


def _ratios(
    line: ComparedRow, names: Sequence[str], metric: str, certificates: Sequence[Certificate]
) -> dict[str, Ratio | Breach | str]:
    present = [name for name in names if name in line.cells]
    if len(present) < 2:
        return {}
    reference = line.cells[present[0]]
    ratios: dict[str, Ratio | Breach | str] = {}
    for name in present[1:]:
        allowed = may_compare(reference, line.cells[name], metric, certificates)
        if isinstance(allowed, Certificate):
            ratios[name] = _ratio(line.cells[name], reference, metric, allowed)
        else:
            ratios[name] = f"≠ {allowed}" if isinstance(allowed, str) else allowed._replace(text=f"≠ {allowed.text}")
    return ratios


def _ratio(row: Row, reference: Row, metric: str, certificate: Certificate) -> Ratio:
    low, high = math.nan, math.nan
    if metric == "throughput":
        low, high = ratio_interval(row["throughputs"], reference["throughputs"])
    return Ratio(row[metric] / reference[metric], low, high, certificate, certificate.level(row["scenario"]))


def _differs(one: Row, other: Row, field: str) -> bool:
    return key_of(one, [field]) != key_of(other, [field])
