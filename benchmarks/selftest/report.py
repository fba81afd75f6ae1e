"""What `selftest` prints: a line per sin, the clean runs, the naive formulas, and the score last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.selftest.running import Clean, SelftestOutcome, SinTrial


def lines(outcome: SelftestOutcome) -> Iterator[str]:
    """Everything but the score, for people."""
    trials, clean, shown = outcome.trials, outcome.clean, outcome.shown
    yield "Every sin is planted grossly and subtly, is noticed by its rule, and gets through without it."
    for number, (name, tried) in enumerate(groupby(trials, lambda trial: trial.name), 1):
        yield from _of_sin(number, name, list(tried))
    yield ""
    yield f"{clean.runs} runs without a sin: {'no rule spoke' if not clean.said else 'NO, ' + '; '.join(clean.said)}"
    yield ""
    yield "Formulas of well-known harnesses, applied to such runs:"
    for one in shown:
        sign = "ok " if one.holds else "NO "
        yield f"{sign}{one.name}: says {one.naive}; true is {one.true}"
        yield f"      here: {one.said or 'nothing was said'}"


def score(outcome: SelftestOutcome) -> tuple[int, int]:
    """Sins that were proved in both magnitudes, and all; none is if a clean run was spoken against."""
    faulty: dict[str, bool] = {}
    for trial in outcome.trials:
        faulty[trial.name] = faulty.get(trial.name, False) or bool(trial.fault)
    return 0 if outcome.clean.said else sum(not fault for fault in faulty.values()), len(faulty)


def merged(parts: Sequence[SelftestOutcome], order: Sequence[str]) -> SelftestOutcome:
    """Several parts as one, with the trials in the order of the sins' names."""
    trials = sorted((trial for part in parts for trial in part.trials), key=lambda trial: order.index(trial.name))
    said = tuple(one for part in parts for one in part.clean.said)
    clean = Clean(runs=sum(part.clean.runs for part in parts), said=said)
    return SelftestOutcome(trials=tuple(trials), clean=clean, shown=tuple(one for part in parts for one in part.shown))


def _of_sin(number: int, name: str, tried: list[SinTrial]) -> Iterator[str]:
    faults = [f"{trial.magnitude}: {trial.fault}" for trial in tried if trial.fault]
    also = sorted({rule for trial in tried for rule in trial.also})
    besides = f" (and by {', '.join(also)})" if also else ""
    yield f"{'NO ' if faults else 'ok '} {number:2} {name}: noticed by {tried[0].rule}{besides}"
    yield from (f"       {fault}" for fault in faults)
    if not faults:
        yield f"       “{tried[-1].said}”"
