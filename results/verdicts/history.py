"""All runs of a machine over time, and where a level changed permanently. The history only warns.

A change is reported if two methods agree: PELT (Killick, Fearnhead and Eckley 2012; ruptures) finds the start of a new
level, and Welch's test finds the last five runs different from up to 25 earlier runs by more than the margin. Runs are
compared only within a segment; a new machine or environment starts a new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import scipy
from msgspec.structs import replace

from results.storage.comparison import Finding
from results.tables.columns import METRICS
from results.tables.identity import alike
from results.verdicts.accepted import Acceptance, accepted_by

RECENT, BEFORE, LEAST = 5, 25, 10
"""Numbers of recent runs, of earlier runs at most, and of earlier runs at least, in Welch's test."""
P = 0.005
PENALTY = 4.0
"""Penalty of a change point for PELT, in units of the log of the number of runs times the variance of a run."""
FOLLOWED = ("throughput", "latency_ms", "peak_memory_mb", "accuracy")


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The figure of one run: the median over its processes, or the mean over its seeds, in the unit of the metric."""

    run: str
    started: str
    value: float
    processes: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the level from this run on. `change` is relative, or in points of accuracy.

    `accepted` is the reason of the acceptance that covers it, if any.
    """

    run: str
    started: str
    change: float
    worse: bool
    p: float
    accepted: str = ""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Runs in one environment. `began` says what is new in it; `note` says why no change can be found."""

    environment: str
    began: str
    points: tuple[HistoryPoint, ...]
    changes: tuple[Change, ...] = ()
    note: str = ""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one case on one machine, over all its segments in the order of time."""

    machine: str
    label: str
    version: str
    metric: str
    segments: tuple[Segment, ...]


class _Environment(NamedTuple):
    key: str
    versions: dict[str, str]


def history(
    frame: pd.DataFrame, acceptances: Sequence[Acceptance] = (), margin: float = 0.03, points: float = 1.0
) -> list[Series]:
    """Return the series of a `results.load`, without sides of comparisons; `points` is the margin for accuracy."""
    good = frame[(frame["status"] == "ok") & frame["arm"].isna()]
    found = []
    for _, rows in good.groupby(alike("environment"), sort=False, dropna=False):
        machine, version, *names = rows.iloc[0][["machine", "version", "backend_name", "model", "scenario"]].map(str)
        label = "/".join(names)
        for metric in FOLLOWED:
            edge = points / 100 if metric == "accuracy" else margin
            segments = _accepted(tuple(_segments(rows, metric, edge)), metric, label, edge, acceptances)
            if segments:
                found.append(Series(machine=machine, label=label, version=version, metric=metric, segments=segments))
    return found


def find_changes(values: Sequence[float], margin: float, *, relative: bool = True) -> list[tuple[int, float, float]]:
    """Return the position, change and Welch's p of each change of level, without knowledge of later runs.

    The change is a log-ratio if `relative`, else a difference.

    >>> find_changes([100.0 + n % 2 for n in range(20)] + [110.0 + n % 2 for n in range(6)], 0.03)[0][0]
    20
    """
    sample = np.log(values) if relative else np.asarray(values, dtype=np.float64)
    edge = math.log1p(margin) if relative else margin
    found: list[tuple[int, float, float]] = []
    start = 0
    for end in range(LEAST + RECENT, len(sample) + 1):
        if end - start < LEAST + RECENT:
            continue
        if (last := _last_change(sample[start:end], edge)) is not None:
            place, change, p = last
            found.append((start + place, change, p))
            start += place
    return found


def _last_change(sample: np.ndarray[Any, Any], edge: float) -> tuple[int, float, float] | None:
    now, before = sample[-RECENT:], sample[-RECENT - BEFORE : -RECENT]
    change = float(now.mean() - before.mean())
    if abs(change) < edge:
        return None
    spread = float(np.median(np.abs(np.diff(sample)))) / (math.sqrt(2) * float(scipy.stats.norm.ppf(0.75)))
    p = float(scipy.stats.ttest_ind(now, before, equal_var=False).pvalue) if spread else 0.0
    if p >= P:
        return None
    import ruptures  # takes half a second to import

    scaled = sample / (spread or 1e-12)
    pelt = ruptures.Pelt(model="l2", min_size=RECENT - 1, jump=1).fit(scaled)
    ends = pelt.predict(pen=PENALTY * math.log(len(sample)))
    place = ends[-2] if len(ends) > 1 else None
    return (place, change, p) if place is not None and len(sample) - place <= RECENT + 1 else None


def _accepted(
    segments: tuple[Segment, ...], metric: str, label: str, edge: float, acceptances: Sequence[Acceptance]
) -> tuple[Segment, ...]:
    """Mark accepted changes: each acceptance covers one change, the nearest in time within its limit."""
    reasons: dict[Change, str] = {}
    for one in acceptances:
        covered = [change for segment in segments for change in segment.changes
                   if change.worse and accepted_by(_finding(change, metric, edge), label, [one])]  # fmt: skip
        if covered:
            reasons[min(covered, key=lambda change: _apart(change.started, one.moment))] = one.reason
    return tuple(
        replace(segment, changes=tuple(replace(change, accepted=reasons.get(change, "")) for change in segment.changes))
        for segment in segments
    )


def _apart(moment: str, other: str) -> float:
    """Return the seconds between two moments; infinite for an invalid one."""
    both = pd.to_datetime(pd.Series([moment, other]), utc=True, errors="coerce", format="ISO8601")
    apart = abs(float(both.diff().dt.total_seconds().iloc[1]))
    return math.inf if math.isnan(apart) else apart


def _finding(change: Change, metric: str, edge: float) -> Finding:
    relative = metric != "accuracy"
    return Finding(metric=metric, unit="log-ratio" if relative else "points", verdict="regression",
                   change=abs(math.log1p(change.change) if relative else change.change), low=0, high=0, p=change.p,
                   replicates=RECENT, margin=edge, detectable=0)  # fmt: skip


def _segments(rows: pd.DataFrame, metric: str, edge: float) -> Iterator[Segment]:
    known = METRICS[metric]
    points: list[tuple[_Environment, HistoryPoint]] = []
    needed = rows[["run", "environment", "seed", "started", "versions", metric]]  # each column costs time per group
    for (run, _), group in needed.dropna(subset=[metric]).groupby(["run", "environment"], sort=False, dropna=False):
        by_seed = group.groupby("seed")[metric].median()
        value = float(by_seed.mean() if known.replicate == "seed" else group[metric].median())
        environment = _Environment(*group.iloc[0][["environment", "versions"]])
        point = HistoryPoint(run=str(run), started=group["started"].min(), value=value, processes=len(group))
        points.append((environment, point))
    points.sort(key=lambda pair: (pair[1].started, pair[1].run))
    start = 0
    for end in range(1, len(points) + 1):
        if end < len(points) and points[end][0].key == points[start][0].key:
            continue
        before = points[start - 1][0] if start else None
        yield _segment(points[start][0], before, tuple(point for _, point in points[start:end]), metric, edge)
        start = end


def _segment(
    environment: _Environment, before: _Environment | None, points: tuple[HistoryPoint, ...], metric: str, edge: float
) -> Segment:
    relative = metric != "accuracy"
    changes = [
        Change(
            run=points[place].run,
            started=points[place].started,
            change=math.expm1(change) if relative else 100 * change,
            worse=(change < 0) == METRICS[metric].higher_is_better,
            p=p,
        )
        for place, change, p in find_changes([point.value for point in points], edge, relative=relative)
    ]
    short = LEAST + RECENT - len(points)
    note = f"{len(points)} runs; {short} more are needed to find a change" if short > 0 else ""
    began = _what_is_new(before, environment)
    return Segment(environment=environment.key, began=began, points=points, changes=tuple(changes), note=note)


def _what_is_new(before: _Environment | None, now: _Environment) -> str:
    if before is None:
        return "first run"
    ours, theirs = before.versions, now.versions
    changed = [f"{name} {ours.get(name, 'none')} → {theirs.get(name, 'none')}" for name in sorted({*ours, *theirs})
               if ours.get(name) != theirs.get(name)]  # fmt: skip
    return ", ".join(changed) or "another system or settings"
