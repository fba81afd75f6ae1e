"""The answer: the case to choose on each dataset in each setting. Terminal, report and exports show this one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from results.certificate import Certificate
from results.identity import alike
from results.side_by_side import may_compare

Row = Mapping[Hashable, Any]
LeftOut = Literal["no accuracy or no training time", "each framework's own defaults (--idiom)",
                  "its epoch was selected on the images that its score is of"]  # fmt: skip
"""Why a case is no candidate."""
DIFFERENT_CASES = "their answers are different cases"


class Answer(NamedTuple):
    """Of `of` cases in one framework and setting, `close` have an accuracy that the test images cannot tell from the
    highest; the one of these that trained the shortest is chosen.

    `twins` are answers of other frameworks that it was compared with, each with the certificate of both; `alone` says
    of each other framework why it was not compared with this one; `frameworks` counts those with an answer here.
    """

    chosen: Row
    highest: Row
    close: int
    of: int
    twins: tuple[tuple[Answer, Certificate], ...] = ()
    alone: tuple[tuple[str, str], ...] = ()
    frameworks: int = 1


class Answers(NamedTuple):
    """All answers of a table in its order, and how many cases were no candidates, by the reason."""

    found: tuple[Answer, ...]
    left_out: Mapping[LeftOut, int]


def answers(table: pd.DataFrame, certificates: Sequence[Certificate] = ()) -> Answers:
    """One answer per dataset and setting, and per framework unless a certificate covers the frameworks' answers."""
    good = table[table["status"] == "ok"]
    reasons = [left_out(row) for row in good.to_dict("records")]
    fair = good[np.array([reason is None for reason in reasons], dtype=bool)]
    found: list[Answer] = []
    for _, rows in fair.groupby(alike("scenario", "model", "backend_name"), sort=False, dropna=False):
        own = rows.groupby(alike("scenario", "model"), sort=False, dropna=False)
        found += _joined([choose(some.to_dict("records")) for _, some in own], certificates)
    return Answers(tuple(found), Counter(reason for reason in reasons if reason is not None))


def left_out(row: Row) -> LeftOut | None:
    """Why a row of `results.table` is no candidate; None if it is one."""
    if not (math.isfinite(row["accuracy"]) and math.isfinite(row["train_s"])):
        return "no accuracy or no training time"
    if row["idiom"]:
        return "each framework's own defaults (--idiom)"
    if "best epoch on test" in row["marks"]:
        return "its epoch was selected on the images that its score is of"
    return None


def choose(rows: Sequence[Row]) -> Answer:
    """The answer of rows of one framework and setting, of which there is at least one."""
    highest = max(rows, key=lambda row: float(row["accuracy"]))
    within = highest["accuracy_mde"] if math.isfinite(highest["accuracy_mde"]) else 0.0
    close = [row for row in rows if highest["accuracy"] - row["accuracy"] <= within]
    chosen = min(close, key=lambda row: (float(row["train_s"]), -float(row["accuracy"])))
    return Answer(chosen, highest, len(close), len(rows))


def _joined(own: Sequence[Answer], certificates: Sequence[Certificate]) -> list[Answer]:
    """Answers of frameworks in one setting: those that certificates cover become one, the others say why not."""
    clusters: list[list[Answer]] = []
    for answer in own:
        for cluster in clusters:
            if all(isinstance(_covered(one, answer, certificates), Certificate) for one in cluster):
                cluster.append(answer)
                break
        else:
            clusters.append([answer])
    kept = [_winner(cluster, certificates) for cluster in clusters]
    names = {str(answer.chosen["backend_name"]) for answer in own}
    return [answer._replace(alone=tuple(_alone(answer, kept, certificates)), frameworks=len(names)) for answer in kept]


def _covered(one: Answer, other: Answer, certificates: Sequence[Certificate]) -> Certificate | str:
    ours, theirs = one.chosen, other.chosen
    if ours["backend_name"] == theirs["backend_name"]:
        return "other package versions"
    if any(ours[name] != theirs[name] for name in ("model", "stages")):
        return DIFFERENT_CASES
    return may_compare(ours, theirs, "train_s", certificates)


def _winner(cluster: Sequence[Answer], certificates: Sequence[Certificate]) -> Answer:
    chosen = choose([answer.chosen for answer in cluster]).chosen
    winner = next(answer for answer in cluster if answer.chosen is chosen)
    twins = [(answer, _covered(winner, answer, certificates)) for answer in cluster if answer is not winner]
    return winner._replace(twins=tuple((twin, proof) for twin, proof in twins if isinstance(proof, Certificate)))


def _alone(answer: Answer, others: Sequence[Answer], certificates: Sequence[Certificate]) -> list[tuple[str, str]]:
    found = []
    for other in others:
        reason = _covered(answer, other, certificates) if other is not answer else ""
        if isinstance(reason, str) and reason:
            found.append((str(other.chosen["backend_name"]), reason))
    return found
