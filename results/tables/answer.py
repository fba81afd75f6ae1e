"""The answer: the case to choose for each dataset and setting, and its sentences for terminal, report and exports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from harness import PROGRAM
from harness.rules import Breach
from results.certificates.certificate import Certificate
from results.certificates.scope import NONE_MADE
from results.tables.columns import METRICS, Row
from results.tables.identity import alike
from results.tables.side_by_side import may_compare
from results.tables.wording import APART, counted, extra_columns, plain, worded

LeftOut = Literal["no accuracy or no training time", "each framework's own defaults",
                  "the epoch was selected on the images of the score"]  # fmt: skip
"""Why a case is not a candidate."""
DIFFERENT_CASES = "the two frameworks have different best cases"


class Answer(NamedTuple):
    """The case with the shortest training time among the most accurate cases of one framework and setting.

    `close` of the `of` cases have the `highest` accuracy within the resolution of the test images; `chosen` is one of
    them. `twins` are the comparable answers of other frameworks, each with its certificate; `alone` gives for each
    other framework the reason why it is not comparable; `frameworks` counts the frameworks with an answer here.
    """

    chosen: Row
    highest: Row
    close: int
    of: int
    twins: tuple[tuple[Answer, Certificate], ...] = ()
    alone: tuple[tuple[str, str], ...] = ()
    frameworks: int = 1


class Answers(NamedTuple):
    """All answers of a table in its order, and the number of cases that are not candidates, by reason."""

    found: tuple[Answer, ...]
    left_out: Mapping[LeftOut, int]


def answers(table: pd.DataFrame, certificates: Sequence[Certificate] = ()) -> Answers:
    """Find one answer per dataset and setting, and per framework unless a certificate covers both frameworks."""
    good = table[table["status"] == "ok"]
    reasons = [left_out(row) for row in good.to_dict("records")]
    fair = good[np.array([reason is None for reason in reasons], dtype=bool)]
    found: list[Answer] = []
    for _, rows in fair.groupby(alike("scenario", "model", "backend_name"), sort=False, dropna=False):
        groups = rows.groupby(alike("scenario", "model"), sort=False, dropna=False)
        found += _joined([choose(group.to_dict("records")) for _, group in groups], certificates)
    return Answers(tuple(found), Counter(reason for reason in reasons if reason is not None))


def left_out(row: Row) -> LeftOut | None:
    """Return why a row of `results.table` is not a candidate; None for a candidate."""
    if not (math.isfinite(row["accuracy"]) and math.isfinite(row["train_s"])):
        return "no accuracy or no training time"
    if "native defaults" in row["marks"]:
        return "each framework's own defaults"
    if "best epoch on test" in row["marks"]:
        return "the epoch was selected on the images of the score"
    return None


def choose(rows: Sequence[Row]) -> Answer:
    """Choose among the rows of one framework and setting, at least one."""
    highest = max(rows, key=lambda row: float(row["accuracy"]))
    within = highest["accuracy_mde"] if math.isfinite(highest["accuracy_mde"]) else 0.0
    close = [row for row in rows if highest["accuracy"] - row["accuracy"] <= within]
    chosen = min(close, key=lambda row: (float(row["train_s"]), -float(row["accuracy"])))
    return Answer(chosen, highest, len(close), len(rows))


def _joined(answers: Sequence[Answer], certificates: Sequence[Certificate]) -> list[Answer]:
    """Join the answers of one setting that certificates cover; give the others the reason why they stay alone."""
    clusters: list[list[Answer]] = []
    for answer in answers:
        for cluster in clusters:
            if all(isinstance(_covered(one, answer, certificates), Certificate) for one in cluster):
                cluster.append(answer)
                break
        else:
            clusters.append([answer])
    kept = [_winner(cluster, certificates) for cluster in clusters]
    names = {str(answer.chosen["backend_name"]) for answer in answers}
    return [answer._replace(alone=tuple(_alone(answer, kept, certificates)), frameworks=len(names)) for answer in kept]


def _covered(one: Answer, other: Answer, certificates: Sequence[Certificate]) -> Certificate | str:
    ours, theirs = one.chosen, other.chosen
    if ours["backend_name"] == theirs["backend_name"]:
        return "other package versions"
    if any(ours[name] != theirs[name] for name in ("model", "stages")):
        return DIFFERENT_CASES
    found = may_compare(ours, theirs, "train_s", certificates)
    return found.text if isinstance(found, Breach) else found


def _winner(cluster: Sequence[Answer], certificates: Sequence[Certificate]) -> Answer:
    chosen = choose([answer.chosen for answer in cluster]).chosen
    winner = next(one for one in cluster if one.chosen is chosen)
    twins = [(answer, _covered(winner, answer, certificates)) for answer in cluster if answer is not winner]
    return winner._replace(twins=tuple((twin, proof) for twin, proof in twins if isinstance(proof, Certificate)))


def _alone(answer: Answer, others: Sequence[Answer], certificates: Sequence[Certificate]) -> list[tuple[str, str]]:
    found = []
    for other in others:
        reason = _covered(answer, other, certificates) if other is not answer else ""
        if isinstance(reason, str) and reason:
            found.append((str(other.chosen["backend_name"]), reason))
    return found


OPTIMISTIC = "Selected after the fact, so its score is optimistic."
CERTIFY = f"`{PROGRAM} certify` makes a certificate"
TELLING = (*APART, "environment", "setting")
"""Columns that the answer names only to distinguish two settings."""


def paragraphs(answers: Answers, statuses: Sequence[str] = ()) -> list[list[str]]:
    """Write for each answer the choice, the evidence and the limits.

    Without an answer, one sentence gives the reason; `statuses` are those of all rows.
    """
    if not answers.found:
        return [[_nothing(answers, statuses)]]
    firsts = pd.DataFrame([answer.chosen for answer in answers.found])
    differing = [name for name in extra_columns(firsts, ("dataset", "backend_name"), TELLING) if name != "dataset"]
    found = [[plain(one) for one in _sentences(answer, differing)] for answer in answers.found]
    if answers.left_out:
        found[-1].append(f"Left out: {_reasons(answers)}.")
    return found


def _nothing(answers: Answers, statuses: Sequence[str]) -> str:
    if answers.left_out:
        return f"There is no answer because no case is a candidate: {_reasons(answers)}."
    listed = ", ".join(f"{count} {status}" for status, count in Counter(statuses).items())
    return f"Nothing was measured, so there is no answer{f': {listed}' if listed else ''}."


def _reasons(answers: Answers) -> str:
    return "; ".join(f"{counted(number, 'case')} ({reason})" for reason, number in answers.left_out.items())


def _sentences(answer: Answer, differing: Sequence[str]) -> Iterator[str]:
    row = answer.chosen
    where = ", ".join(worded(row, name) for name in differing)
    place = f"On {row['dataset']}{f' ({where})' if where else ''}"
    case, backend = f"{row['scenario']} of {row['model']}", row["backend_name"]
    repeats = f"{counted(row['runs'], 'run')}, {counted(row['seeds'], 'seed')}"
    figures = f"{_accuracy(row)} after {_seconds(row)} of training ({repeats})"
    several = answer.frameworks > 1
    if several and answer.alone:
        yield f"{place}, the fastest way to the best accuracy with {backend} was {case}: {figures}."
    else:
        yield f"{place}, the fastest way to the best accuracy was {case} with {backend}: {figures}."
    yield _rests_on(answer, f" with {backend}" if several else "")
    for twin, proof in answer.twins:
        same, level = twin.chosen, proof.level(row["scenario"])
        figures = f"{_accuracy(same)} after {_seconds(same)} (certificate {proof.sha256[:8]}, P{level})"
        yield f"With {same['backend_name']} the same case reached {figures}."
        yield _rests_on(twin, f" with {same['backend_name']}")
    for other, reason in answer.alone:
        remedy = f" ({CERTIFY})" if reason == NONE_MADE else ""
        yield f"It is not compared with the answer of {other}: {reason}{remedy}."
    yield from _weak(answer)


def _rests_on(answer: Answer, framework: str) -> str:
    highest, metric = answer.highest, METRICS["accuracy"]
    if answer.of == 1:
        return f"It is the only case{framework}."
    count: str = "" if pd.isna(highest["test_images"]) else f"{highest['test_images']} "
    images = f"{count}{'validation' if 'validation images' in highest['marks'] else 'test'} images"
    resolution = f"The resolution of {images} is ± {metric.write(highest['accuracy_mde'])} points"
    first = f"Its accuracy is the highest of {answer.of} cases{framework}."
    if answer.chosen is not highest:
        top = f"{metric.write(highest['accuracy'])} % ({highest['scenario']} of {highest['model']})"
        first = f"The highest accuracy of {answer.of} cases{framework} is {top}."
    if answer.close == 1:
        return f"{first} {resolution}; no other case is within it."
    return f"{first} {resolution}; {answer.close} cases are within it, and this one has the shortest training time."


def _weak(answer: Answer) -> Iterator[str]:
    runs, seeds = answer.chosen["runs"], answer.chosen["seeds"]
    if runs == 1:
        yield "There is only one run, so the spread of accuracy and training time between runs is unknown."
    elif seeds == 1:
        yield "There is only one seed, so the spread of accuracy between seeds is unknown."
    if answer.of > 1:
        yield OPTIMISTIC


def _accuracy(row: Row) -> str:
    metric, low, high = METRICS["accuracy"], row["accuracy_low"], row["accuracy_high"]
    interval: str = "" if pd.isna(low) else f" (95 % interval {metric.write(low)}–{metric.write(high)})"
    return f"{metric.write(row['accuracy'])} %{interval}"


def _seconds(row: Row) -> str:
    metric, low, high = METRICS["train_s"], row["train_s_low"], row["train_s_high"]
    spread: str = "" if pd.isna(low) else f" ({metric.write(low)}–{metric.write(high)})"
    return f"{metric.write(row['train_s'])} s{spread}"
