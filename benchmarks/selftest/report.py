"""The output of `selftest`: one line per sin, the correct runs, the naive formulas, and the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.selftest.running import Clean, SelftestOutcome, SinTrial


def lines(outcome: SelftestOutcome) -> Iterator[str]:
    """Yield all lines except the score."""
    clean = outcome.clean
    yield "Each mistake is planted in a gross and a subtle form. Its rule must detect it; without the rule it passes."
    for number, (name, trials) in enumerate(groupby(outcome.trials, lambda trial: trial.name), 1):
        yield from _of_sin(number, name, list(trials))
    yield ""
    yield f"{clean.runs} correct runs: {'NO, ' * bool(clean.messages)}{'; '.join(clean.messages) or 'none is reported'}"
    yield ""
    yield "Formulas of well-known harnesses, applied to such runs:"
    for one in outcome.shown:
        yield f"{'ok ' if one.holds else 'NO '}{one.name}: gives {one.naive}; true is {one.true}"
        yield f"      this harness: {one.message or 'no message'}"


def score(outcome: SelftestOutcome) -> tuple[int, int]:
    """Return the number of sins detected in both forms, and of all; the first is 0 if a correct run is reported."""
    names = {trial.name for trial in outcome.trials}
    faulty = {trial.name for trial in outcome.trials if trial.fault}
    return 0 if outcome.clean.messages else len(names - faulty), len(names)


def merged(parts: Sequence[SelftestOutcome], order: Sequence[str]) -> SelftestOutcome:
    """Join several parts, with the trials in the order of the sins' names."""
    trials = sorted((trial for part in parts for trial in part.trials), key=lambda trial: order.index(trial.name))
    messages = tuple(one for part in parts for one in part.clean.messages)
    clean = Clean(runs=sum(part.clean.runs for part in parts), messages=messages)
    return SelftestOutcome(trials=tuple(trials), clean=clean, shown=tuple(one for part in parts for one in part.shown))


def _of_sin(number: int, name: str, trials: list[SinTrial]) -> Iterator[str]:
    faults = [f"{trial.magnitude}: {trial.fault}" for trial in trials if trial.fault]
    also = ", ".join(sorted({rule for trial in trials for rule in trial.also}))
    yield f"{'NO ' if faults else 'ok '} {number:2} {name}: detected by {trials[0].rule}{also and f' (and by {also})'}"
    yield from (f"       {fault}" for fault in faults)
    if not faults:
        yield f"       “{trials[-1].message}”"
