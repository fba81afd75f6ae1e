"""The time to a target accuracy, and the scenario with the highest accuracy at each moment of training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from results.statistics import Curves, times_to
from results.tables.columns import METRICS
from results.tables.identity import arms, races
from results.tables.wording import extra_columns, worded

Array = NDArray[np.float64]
CONFIDENCE = 0.95
GRID = 200
RESAMPLES = 400


class Reached(NamedTuple):
    """Median training time to the target with its 95 % interval; infinite if fewer than half of the runs reach it.

    `reached` of `runs` reached it; the others are censored at their end.
    """

    seconds: float
    low: float
    high: float
    reached: int
    runs: int


class Lead(NamedTuple):
    """A scenario leads from `start` on, in seconds of training; `half` is half of the interval of `start`."""

    scenario: str
    start: float
    half: float


def time_to_target(target: float, seconds: Curves, accuracies: Curves) -> Reached:
    """Return the Kaplan-Meier median over runs (`scipy.stats.ecdf`) and its interval; arguments per run and epoch.

    The interval follows from the pointwise interval of the survival function.

    >>> time_to_target(0.7, [[10.0, 10.0]] * 3, [[0.5, 0.8], [0.5, 0.6], [0.75, 0.8]])[:1]
    (20.0,)
    """
    times = times_to(target, seconds, accuracies)
    ended = np.sum(seconds, axis=1)
    there = np.isfinite(times)
    if not there.any():
        return Reached(math.inf, math.nan, math.inf, 0, len(times))
    sample = scipy.stats.CensoredData(uncensored=times[there], right=ended[~there])
    survival: Any = scipy.stats.ecdf(sample).sf
    middle = _first_below(survival.quantiles, survival.probabilities)
    if len(times) < 2:
        return Reached(middle, math.nan, math.nan, int(there.sum()), len(times))
    with warnings.catch_warnings():
        # At 0 and 1 the formula is undefined; these bounds are open below.
        warnings.simplefilter("ignore", RuntimeWarning)
        bounds: Any = survival.confidence_interval(CONFIDENCE, method="log-log")
    low = _first_below(bounds.low.quantiles, np.nan_to_num(bounds.low.probabilities, nan=0.0))
    high = _first_below(bounds.high.quantiles, np.nan_to_num(bounds.high.probabilities, nan=1.0))
    return Reached(middle, low, high, int(there.sum()), len(times))


def leads(frame: pd.DataFrame) -> list[Lead]:
    """Find the leading scenario over training time, in one of `results.tables.identity.races`.

    The curve of a scenario is its best validation accuracy so far, as a mean over runs; a bootstrap over runs gives the
    intervals. Empty for fewer than two scenarios of at least two runs each.
    """
    runs = {
        scenario: [
            (np.cumsum(s), np.maximum.accumulate(a))
            for s, a in zip(rows["epoch_seconds"], rows["epoch_val_accuracy"], strict=True)
        ]
        for scenario, rows in arms(frame).items()
    }
    if len(runs) < 2 or min(map(len, runs.values())) < 2:
        return []
    end = max(float(times[-1]) for curves in runs.values() for times, _ in curves)
    grid = np.linspace(0, end, GRID + 1)[1:]
    curves = {name: np.array([_at(grid, times, best) for times, best in steps]) for name, steps in runs.items()}
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
    for (scenario, start), drawn in zip(order, moments, strict=True):
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if drawn else (start, start)
        found.append(Lead(scenario, start, float(high - low) / 2))
    return found


def sentence(found: Sequence[Lead]) -> str:
    """Write the leading scenarios in one sentence; empty for no leads.

    >>> sentence([Lead("freeze-conv", 0.0, 0.0), Lead("two-stage", 41.2, 6.1)])
    'freeze-conv has the highest validation accuracy first, two-stage from 41.2 ± 6.10 s of training'
    """
    write = METRICS["train_s"].write
    later = "".join(f", {lead.scenario} from {write(lead.start)} ± {write(lead.half)} s" for lead in found[1:])
    when = f"first{later} of training" if later else "at all times"
    return f"{found[0].scenario} has the highest validation accuracy {when}" if found else ""


def sentences(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the sentence of each race in the result of `results.load` that has a leader."""
    groups = list(races(frame[(frame["status"] == "ok") & frame["arm"].isna()]))
    firsts = pd.DataFrame([rows.iloc[0] for rows in groups], columns=frame.columns)
    differing = extra_columns(firsts, ("model", "backend_name"))
    for rows in groups:
        if text := sentence(leads(rows)):
            first = rows.iloc[0].to_dict()
            names = [first["model"], first["backend_name"], *(worded(first, name) for name in differing)]
            yield f"{' · '.join(names)}: {text}"


def _first_below(times: Array, survival: Array) -> float:
    below = np.flatnonzero(survival <= 0.5)
    return float(times[below[0]]) if len(below) else math.inf


def _at(grid: Array, times: Array, best: Array) -> Array:
    """Evaluate a step curve: 0 before the end of the first epoch, the last value after the last epoch."""
    place = np.searchsorted(times, grid, side="right")
    found: Array = np.concatenate([[0.0], best])[place]
    return found


def _order(grid: Array, means: dict[str, Array]) -> list[tuple[str, float]]:
    """Return the leaders in the order of their last lead, with its start. Ties keep the earlier leader."""
    names = list(means)
    stacked = np.array([means[name] for name in names])
    leader, taken = -1, list[tuple[int, float]]()
    for moment in range(len(grid)):
        best = int(stacked[:, moment].argmax())
        ahead = stacked[leader, moment] if leader >= 0 else 0.0  # there is no leader before the end of the first epoch
        if stacked[best, moment] > ahead + 1e-9:
            leader = best
            taken.append((leader, float(grid[moment])))
    last = dict(taken)
    kept = [(place, at) for place, at in taken if last[place] == at]
    return [(names[place], at if number else 0.0) for number, (place, at) in enumerate(kept)]
