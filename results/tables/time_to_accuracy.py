"""Which way of fine-tuning is ahead at which moment: time to a target, and when the lead changes hands."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from results.statistics import time_to
from results.tables.identity import arms, races
from results.tables.wording import extra_columns, worded

Array = NDArray[np.float64]
CONFIDENCE = 0.95
GRID = 200
RESAMPLES = 400


class Reached(NamedTuple):
    """Seconds of training after which half of the runs are at the target, with its 95 % interval; infinite where too
    few ever get there. `reached` of `runs` did; the others are censored where they ended."""

    seconds: float
    low: float
    high: float
    reached: int
    runs: int


class Lead(NamedTuple):
    """A scenario is ahead from a moment on, in seconds of training; `half` is half of that moment's interval."""

    scenario: str
    start: float
    half: float


def time_to_target(target: float, seconds: Sequence[Sequence[float]], accuracies: Sequence[Sequence[float]]) -> Reached:
    """Kaplan and Meier's median over runs (`scipy.stats.ecdf`, which takes censored values), its interval from the
    pointwise one of the survival function. Both arguments are per run and per epoch.

    >>> time_to_target(0.7, [[10.0, 10.0]] * 3, [[0.5, 0.8], [0.5, 0.6], [0.75, 0.8]])[:1]
    (20.0,)
    """
    times = np.array([time_to(target, own, acc) for own, acc in zip(seconds, accuracies, strict=True)])
    ended = np.array([sum(own) for own in seconds])
    there = np.isfinite(times)
    if not there.any():
        return Reached(math.inf, math.nan, math.inf, 0, len(times))
    sample = stats.CensoredData(uncensored=times[there], right=ended[~there])
    survival: Any = stats.ecdf(sample).sf
    middle = _first_below(survival.quantiles, survival.probabilities)
    if len(times) < 2:
        return Reached(middle, math.nan, math.nan, int(there.sum()), len(times))
    with warnings.catch_warnings():
        # At 0 and 1 the formula is undefined; the bounds there are taken as open below.
        warnings.simplefilter("ignore", RuntimeWarning)
        bounds: Any = survival.confidence_interval(CONFIDENCE, method="log-log")
    low = _first_below(bounds.low.quantiles, np.nan_to_num(bounds.low.probabilities, nan=0.0))
    high = _first_below(bounds.high.quantiles, np.nan_to_num(bounds.high.probabilities, nan=1.0))
    return Reached(middle, low, high, int(there.sum()), len(times))


def leads(frame: pd.DataFrame) -> list[Lead]:
    """Who leads when, among the scenarios of one of `results.tables.identity.races`.

    Each scenario's curve is the best validation accuracy so far against seconds of training, as a mean over its runs;
    the half-intervals of the moments at which the lead changes are a bootstrap's over runs. Empty for fewer than two
    scenarios of at least two runs each.
    """
    runs = {
        scenario: [
            (np.cumsum(s), np.maximum.accumulate(a))
            for s, a in zip(own["epoch_seconds"], own["epoch_val_accuracy"], strict=True)
        ]
        for scenario, own in arms(frame).items()
    }
    if len(runs) < 2 or min(map(len, runs.values())) < 2:
        return []
    end = max(float(times[-1]) for own in runs.values() for times, _ in own)
    grid = np.linspace(0, end, GRID + 1)[1:]
    curves = {scenario: np.array([_at(grid, times, best) for times, best in own]) for scenario, own in runs.items()}
    order = _order(grid, {scenario: curve.mean(axis=0) for scenario, curve in curves.items()})
    draw = np.random.default_rng(0)
    moments: list[list[float]] = [[] for _ in order]
    for _ in range(RESAMPLES):
        means = {name: curve[draw.integers(0, len(curve), len(curve))].mean(axis=0) for name, curve in curves.items()}
        again = dict(_order(grid, means))
        for place, (scenario, _) in enumerate(order):
            if scenario in again:
                moments[place].append(again[scenario])
    found = []
    for (scenario, start), own in zip(order, moments, strict=True):
        low, high = np.quantile(own, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if own else (start, start)
        found.append(Lead(scenario, start, float(high - low) / 2))
    return found


def sentence(found: Sequence[Lead]) -> str:
    """`freeze-conv leads until 41 ± 6 s of training, then two-stage`; empty for no leads.

    >>> sentence([Lead("freeze-conv", 0.0, 0.0), Lead("two-stage", 41.2, 6.1)])
    'freeze-conv leads until 41 ± 6 s of training, then two-stage'
    """
    if not found:
        return ""
    if len(found) == 1:
        return f"{found[0].scenario} leads all the time"
    parts = [f"{found[0].scenario} leads until {found[1].start:.0f} ± {found[1].half:.0f} s of training"]
    for lead, after in pairwise(found[1:]):
        parts.append(f"then {lead.scenario} until {after.start:.0f} ± {after.half:.0f} s")
    return ", ".join([*parts, f"then {found[-1].scenario}"])


def sentences(frame: pd.DataFrame) -> Iterator[str]:
    """A sentence for each case but for its scenario, of what `results.load` returned, that has a race to tell of."""
    groups = list(races(frame[(frame["status"] == "ok") & frame["arm"].isna()]))
    firsts = pd.DataFrame([rows.iloc[0] for rows in groups], columns=frame.columns)
    differing = extra_columns(firsts, ("model", "backend_name"))
    for rows in groups:
        if said := sentence(leads(rows)):
            first = rows.iloc[0].to_dict()
            names = [first["model"], first["backend_name"], *(worded(first, name) for name in differing)]
            yield f"{' · '.join(names)}: {said}"


def _first_below(times: Array, survival: Array) -> float:
    below = np.flatnonzero(survival <= 0.5)
    return float(times[below[0]]) if len(below) else math.inf


def _at(grid: Array, times: Array, best: Array) -> Array:
    """The step curve at each moment: 0 before the first epoch's end, the last value after the last."""
    place = np.searchsorted(times, grid, side="right")
    found: Array = np.concatenate([[0.0], best])[place]
    return found


def _order(grid: Array, means: dict[str, Array]) -> list[tuple[str, float]]:
    """Leaders in the order in which they take the lead for the last time, with that moment. A lead must be larger than
    what one image could make, or the one who led before keeps it."""
    names = list(means)
    stacked = np.array([means[name] for name in names])
    leader, taken = -1, list[tuple[int, float]]()
    for moment in range(len(grid)):
        best = int(stacked[:, moment].argmax())
        ahead = stacked[leader, moment] if leader >= 0 else 0.0  # before the first epoch's end nobody leads
        if stacked[best, moment] > ahead + 1e-9:
            leader = best
            taken.append((leader, float(grid[moment])))
    last = dict(taken)
    kept = [(place, at) for place, at in taken if last[place] == at]
    return [(names[place], at if number else 0.0) for number, (place, at) in enumerate(kept)]
