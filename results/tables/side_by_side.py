"""Backends beside each other, and the one place that says whether a ratio between two of them may be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.rules import Breach
from results.certificates.certificate import Certificate
from results.certificates.scope import standing, subject_of_row
from results.rules.pair_rules import unlike
from results.statistics import ratio_interval
from results.tables.columns import METRICS, Row, key_of
from results.tables.identity import alike

ROW = [name for name in alike("backend_name") if name != "dataset_sha256"]
"""What two cells of one line agree in, but for the layout of native defaults, which is each framework's own. That data
of one name are other data is written in the cell."""


class Ratio(NamedTuple):
    """A backend's figure over that of the first one of its line, and the certificate that covers both.

    `low` and `high` are the 95 % interval of the ratio of throughputs (`results.statistics.ratio_interval`); NaN where
    either side has fewer than two processes, and for other figures.
    """

    value: float
    low: float
    high: float
    certificate: Certificate
    level: int


class ComparedRow(NamedTuple):
    """One line: what its cells share, a row of `table` per backend that has one, the ratios and why there are none.

    `ratios` are of a backend's figure over that of the first backend named, which has none itself.
    """

    shared: dict[str, Any]
    cells: dict[str, Row]
    ratios: dict[str, Ratio | Breach | str]


def may_compare(
    one: Row,
    other: Row,
    metric: str,
    certificates: Sequence[Certificate] = (),
) -> Certificate | Breach | str:
    """The certificate that lets `metric` of two rows of `table` be shown as a ratio, or why not.

    A reason is a few words behind a `≠`, or the breach of a rule of `results.rules.pair_rules`.
    """
    reasons = {
        "protocol": _differs(one, other, "protocol"),
        "data": _differs(one, other, "dataset_sha256"),
        "native defaults": one["idiom"] or other["idiom"],
        "architecture": _differs(one, other, "backbone_parameters"),
        "checkpoint": _differs(one, other, "checkpoint_sha256"),
    }
    void: str = "void" if pd.isna(one[metric]) or pd.isna(other[metric]) else ""
    timed = METRICS[metric].unit in ("s", "ms", "images/s")
    first = next((word for word, holds in reasons.items() if holds), "")
    if reason := first or unlike(one, other, timed=timed) or void:
        return reason
    found = standing(subject_of_row(one), subject_of_row(other), certificates)
    return found.certificate or found.reason


def side_by_side(
    table: pd.DataFrame, metric: str = "throughput", certificates: Sequence[Certificate] = ()
) -> list[ComparedRow]:
    """Lines by model and scenario with a cell per backend; cases of one backend that differ have a line each.

    Only `ok` rows stand here. The backends are `backends(table)`, in that order.
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
    """A sentence for each pair of figures that stands side by side without a ratio."""
    return [
        f"{line.shared['model']} {line.shared['scenario']}: {withheld(ratio)} ({name})"
        for line in side_by_side(table, "throughput", certificates)
        for name, ratio in line.ratios.items()
        if not isinstance(ratio, Ratio) and len(line.cells) > 1
    ]


def withheld(reason: Breach | str, *, ids: bool = True) -> str:
    """Why there is no ratio, with the id of the rule or without."""
    return reason if isinstance(reason, str) else f"{reason.text} ({reason.rule})" if ids else reason.text


def backends(table: pd.DataFrame) -> list[str]:
    """Names of the backends that have an `ok` row, in the order of the table."""
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
    paired = metric == "throughput"
    low, high = ratio_interval(row["throughputs"], reference["throughputs"]) if paired else (math.nan, math.nan)
    return Ratio(
        value=row[metric] / reference[metric],
        low=low,
        high=high,
        certificate=certificate,
        level=certificate.level(row["scenario"]),
    )


def _differs(one: Row, other: Row, field: str) -> bool:
    return key_of(one, [field]) != key_of(other, [field])
