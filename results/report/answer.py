"""The answer first: the fastest way to the best accuracy, in two sentences that follow from the records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from results.metric import METRICS
from results.report.material import Material, Shown
from results.report.section import Section
from results.wording import plain


class Answer(NamedTuple):
    """For one data set in one setting: the case that was fastest, the most accurate one, and those in between."""

    fastest: Shown
    best: Shown
    alike: int
    of: int


def answer_section(material: Material) -> Section:
    """Two sentences per setting, what makes them weak, and what is missing."""
    settings: dict[tuple[str, str], list[Shown]] = {}
    for case in material.shown:
        settings.setdefault((case.row["dataset"], case.setting), []).append(case)
    paragraphs = [line for cases in settings.values() for line in sentences(cases)]
    if not material.shown:
        counts = Counter(material.frame["status"])
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        paragraphs = [f"Nothing was measured, so there is no answer{f': {listed}' if listed else ''}."]
    return Section(id="answer", title="The answer", paragraphs=tuple(paragraphs))


def sentences(cases: Sequence[Shown]) -> list[str]:
    """The answer for cases of one setting, and a sentence about what it rests on."""
    found = answer(cases)
    if found is None:
        return [f"{_where(cases[0])}: no case has both an accuracy and a training time, so there is no answer."]
    fast, best, of = found.fastest, found.best, f"of {found.of} cases" if found.of > 1 else "of the one case there is"
    accuracy, seconds = _accuracy(fast), _seconds(fast)
    first = (
        f"On {_where(fast)}, the fastest way to the best accuracy was {_named(fast)}: {accuracy} after {seconds} "
        f"({_counted(fast)})."
    )
    detectable = METRICS["accuracy"].write(best.row["accuracy_mde"])
    images = best.row["test_images"]
    if found.alike == 0:
        second = (
            f"Its accuracy is the highest {of}, and no other lies within ± {detectable} points of it, which is what "
            f"{images} images cannot tell apart."
        )
    elif fast is best:
        second = (
            f"Its accuracy is the highest {of}; {found.alike} more within ± {detectable} points, which {images} images "
            "cannot tell from it, did not train shorter."
        )
    else:
        second = (
            f"The highest accuracy {of} is {_accuracy(best)} ({_named(best)}, {_seconds(best)}), which {images} images "
            f"cannot tell from it (± {detectable} points); of the {found.alike + 1} cases so close it trained the "
            "shortest."
        )
    return [f"{first} {second}", *_weak(cases, fast)]


def answer(cases: Sequence[Shown]) -> Answer | None:
    """Among the cases whose accuracy the test set cannot tell from the highest, the one that trained the shortest.

    None if no case has both figures.
    """
    judged = [case for case in cases if math.isfinite(case.row["accuracy"]) and math.isfinite(case.row["train_s"])]
    if not judged:
        return None
    best = max(judged, key=lambda case: float(case.row["accuracy"]))
    within = best.row["accuracy_mde"] if math.isfinite(best.row["accuracy_mde"]) else 0.0
    close = [case for case in judged if best.row["accuracy"] - case.row["accuracy"] <= within]
    fastest = min(close, key=lambda case: (float(case.row["train_s"]), -float(case.row["accuracy"])))
    return Answer(fastest, best, len(close) - 1, len(judged))


def _weak(cases: Sequence[Shown], fast: Shown) -> list[str]:
    said = []
    if fast.row["seeds"] == 1:
        said.append("One seed: the accuracy has no interval, and another seed may change the order.")
    if fast.row["runs"] == 1:
        said.append("One run: the time has no interval, and another run may change the order.")
    if len(cases) > 1:
        said.append("The case was picked after all had been seen, which flatters it; a fresh run is the test (V46).")
    return [" ".join(said)] if said else []


def _where(case: Shown) -> str:
    return f"{plain(case.row['dataset'])}{f' ({case.setting})' if case.setting else ''}"


def _named(case: Shown) -> str:
    return f"{case.scenario} of {case.model} with {case.backend}"


def _accuracy(case: Shown) -> str:
    metric, row = METRICS["accuracy"], case.row
    low, high = row["accuracy_low"], row["accuracy_high"]
    interval = f" (95 % interval {metric.write(low)}–{metric.write(high)})" if math.isfinite(low) else ""
    return f"{metric.write(row['accuracy'])} %{interval}"


def _seconds(case: Shown) -> str:
    metric, row = METRICS["train_s"], case.row
    low, high = row["train_s_low"], row["train_s_high"]
    interval = f" ({metric.write(low)}–{metric.write(high)})" if math.isfinite(low) else ""
    return f"{metric.write(row['train_s'])} s of training{interval}"


def _counted(case: Shown) -> str:
    runs, seeds = case.row["runs"], case.row["seeds"]
    return f"{runs} run{'s' if runs > 1 else ''}, {seeds} seed{'s' if seeds > 1 else ''}"
