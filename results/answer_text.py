"""The answer in sentences, the same in the terminal, the report and exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from results.answer import Answer, Answers, Row
from results.metric import METRICS
from results.standing import NONE_MADE
from results.wording import extra_columns, plain, worded

OPTIMISTIC = "Selected after the fact, so its score is optimistic."
CERTIFY = "`python -m benchmarks certify` makes one"
TELLING = ("augment", "limit", "workers", "warmup_steps", "environment", "setting")
"""Columns that are named only where two settings could not be told apart otherwise."""


def paragraphs(answers: Answers, statuses: Sequence[str] = ()) -> list[list[str]]:
    """Per answer its sentences: what to choose, what that rests on, and what weakens it.

    Where there is none, one sentence with the reason; `statuses` are those of the rows that were looked at.
    """
    if not answers.found:
        return [[_nothing(answers, statuses)]]
    firsts = pd.DataFrame([answer.chosen for answer in answers.found])
    differing = [name for name in extra_columns(firsts, ("dataset", "backend_name"), TELLING) if name != "dataset"]
    said = [[plain(one) for one in _sentences(answer, differing)] for answer in answers.found]
    if answers.left_out:
        said[-1].append(f"Left out: {_counted(answers)}.")
    return said


def _nothing(answers: Answers, statuses: Sequence[str]) -> str:
    if answers.left_out:
        return f"There is no answer, since no case can be chosen: {_counted(answers)}."
    listed = ", ".join(f"{count} {status}" for status, count in Counter(statuses).items())
    return f"Nothing was measured, so there is no answer{f': {listed}' if listed else ''}."


def _counted(answers: Answers) -> str:
    return "; ".join(f"{_count(number, 'case')}, {reason}" for reason, number in answers.left_out.items())


def _sentences(answer: Answer, differing: Sequence[str]) -> Iterator[str]:
    row = answer.chosen
    where = ", ".join(worded(row, name) for name in differing)
    place = f"On {row['dataset']}{f' ({where})' if where else ''}"
    case, backend = f"{row['scenario']} of {row['model']}", row["backend_name"]
    counted = f"{_count(row['runs'], 'run')}, {_count(row['seeds'], 'seed')}"
    figures = f"{_accuracy(row)} after {_seconds(row)} of training ({counted})"
    if answer.frameworks > 1 and answer.alone:
        yield f"{place}, the fastest way to the best accuracy with {backend} was {case}: {figures}."
    else:
        yield f"{place}, the fastest way to the best accuracy was {case} with {backend}: {figures}."
    several = answer.frameworks > 1
    yield _rests_on(answer, f" with {backend}" if several else "")
    for twin, proof in answer.twins:
        same, level = twin.chosen, proof.level(row["scenario"])
        yield (
            f"With {same['backend_name']} the same case came to {_accuracy(same)} after {_seconds(same)} "
            f"(certificate {proof.sha256[:8]}, P{level})."
        )
        yield _rests_on(twin, f" with {same['backend_name']}")
    for other, reason in answer.alone:
        remedy = f" ({CERTIFY})" if reason == NONE_MADE else ""
        yield f"It is not compared with the answer of {other}: {reason}{remedy}."
    yield from _weak(answer)


def _rests_on(answer: Answer, framework: str) -> str:
    highest = answer.highest
    detectable = METRICS["accuracy"].write(highest["accuracy_mde"])
    count: str = "" if pd.isna(highest["test_images"]) else f"{highest['test_images']} "
    images = f"{count}{'validation' if 'validation images' in highest['marks'] else 'test'} images"
    if answer.of == 1:
        return f"It is the only case{framework}."
    if answer.close == 1:
        return (
            f"Its accuracy is the highest of {answer.of} cases{framework}; {images} can tell it from all others "
            f"(± {detectable} points)."
        )
    if answer.chosen is highest:
        return (
            f"Its accuracy is the highest of {answer.of} cases{framework}, and it trained the shortest of the "
            f"{answer.close} that {images} cannot tell apart (± {detectable} points)."
        )
    top = METRICS["accuracy"].write(highest["accuracy"])
    return (
        f"Of {answer.of} cases{framework} it trained the shortest of the {answer.close} that {images} cannot tell from "
        f"the highest accuracy, {top} % ± {detectable} points ({highest['scenario']} of {highest['model']})."
    )


def _weak(answer: Answer) -> Iterator[str]:
    runs, seeds = answer.chosen["runs"], answer.chosen["seeds"]
    if runs == 1:
        yield "One seed and one run: how much accuracy and training time vary between runs is unknown."
    elif seeds == 1:
        yield "One seed: how much accuracy varies between seeds is unknown."
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


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
