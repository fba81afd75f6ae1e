"""The time to a validation accuracy, as Kaplan-Meier curves, because some runs end before they reach it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import scipy
from numpy.typing import NDArray

from results.report.drawing import Look, finish, kept
from results.report.page_data import ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Choice, Grid, GridRow, Section
from results.report.sections.accuracy import time_axis, widely
from results.statistics import times_to
from results.tables.columns import METRICS
from results.tables.time_to_accuracy import time_to_target

TARGETS = (*(percent / 100 for percent in range(5, 100, 5)), 0.975, 0.99)
OFFERED = 8
Seconds = NDArray[np.float64]
DRAWN = 60
"""Largest number of drawn steps of a curve, evenly chosen, the first and the last included."""


def target_section(shown: Sequence[ShownCase], scenarios: Look, arms: Look) -> Section:
    """Draw the share of runs that reached the target, by scenario and backend. The page selects the target."""
    trained = [case for case in shown if any(len(process.row["epoch_seconds"]) for process in case.processes)]
    processes = [process for case in trained for process in case.processes]
    best = np.array([max(process.row["epoch_val_accuracy"], default=0.0) for process in processes])
    there = {target: int(np.sum(best >= target)) for target in TARGETS}
    targets = [target for target, count in there.items() if count][-OFFERED:]
    id, title = "target", "Time to a target"
    if not targets:
        return Section(id, title, notes=(f"No run reached a validation accuracy of {100 * TARGETS[0]:g} %.",))
    chosen = max((target for target in targets if 2 * there[target] >= len(processes)), default=targets[0])
    options = tuple((_value(target), f"{METRICS['accuracy'].write(target)} %") for target in targets)
    return Section(
        id,
        title,
        paragraphs=(
            "The share of runs that reached a validation accuracy, over training time. If a curve ends below 100 %, "
            "some runs ended before they reached it.",
        ),
        choices=(Choice("target", "Validation accuracy", options, _value(chosen)),),
        charts=tuple(_chart(panel, targets, _value(chosen), scenarios, arms) for panel in panels(trained)),
        grids=(_grid(trained, targets),),
    )


def _value(target: float) -> str:
    return f"{target:g}"


def _chart(panel: Panel, targets: Sequence[float], chosen: str, scenarios: Look, arms: Look) -> Chart:
    ends = [end for case in panel.cases for end in _ends(case, targets)]
    start = min(ends) / 2 if widely(ends) else 0.0
    rows = [row for case in panel.cases for row in _curves(case, targets, start)]
    colour = alt.Color("scenario:N", scale=scenarios.colour(panel.scenarios), legend=alt.Legend(title=None))
    shape = alt.Shape("scenario:N", scale=scenarios.shape(panel.scenarios), legend=alt.Legend(title=None))
    several = len(panel.backends) > 1
    dash = [alt.StrokeDash("backend:N", scale=arms.dash(panel.backends), legend=alt.Legend(title=None))]
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "backend", "reached", "runs")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("seconds", "share")]
    x = time_axis(ends, "training, s")
    y = alt.Y("share:Q", title="runs that reached the target, %", scale=alt.Scale(domain=[0, 100]))
    base = (
        alt.Chart(alt.NamedData("curves"))
        .transform_filter(kept("backend", "scenario"))
        .transform_filter("datum.target === target")
    )
    chart = alt.layer(
        base.mark_line(interpolate="step-after", strokeWidth=2).encode(
            x, y, colour, *(dash if several else []), detail="backend:N"
        ),
        base.mark_point(filled=True, size=35, opacity=1).encode(x, y, colour, shape, tooltip=tooltip),
    )
    about = f"{panel.title}: the share of runs that reached the selected validation accuracy, over training time."
    target = alt.param(name="target", value=chosen)
    return finish(f"target-{panel.number}", panel.title, about, chart, {"curves": rows}, panel.facets, params=[target])


def _epochs(case: ShownCase) -> tuple[Seconds, NDArray[np.float64]]:
    """Return training seconds and validation accuracy, [processes, epochs]."""
    rows = [process.row for process in case.processes]
    return np.array([row["epoch_seconds"] for row in rows]), np.array([row["epoch_val_accuracy"] for row in rows])


def _ends(case: ShownCase, targets: Sequence[float]) -> Iterator[float]:
    seconds, accuracies = _epochs(case)
    for times in (seconds.sum(axis=1), *(times_to(target, seconds, accuracies) for target in targets)):
        yield from times[np.isfinite(times)].tolist()


def _curves(case: ShownCase, targets: Sequence[float], start: float) -> Iterator[dict[str, Any]]:
    """Yield the steps of 1 - S for each target, from `start` to the end of the longest run."""
    seconds, accuracies = _epochs(case)
    for target in targets:
        yield from _curve(case, target, start, times_to(target, seconds, accuracies), seconds.sum(axis=1))


def _curve(case: ShownCase, target: float, start: float, times: Seconds, whole: Seconds) -> Iterator[dict[str, Any]]:
    there, ended = times[np.isfinite(times)], whole[~np.isfinite(times)]
    found = scipy.stats.ecdf(scipy.stats.CensoredData(uncensored=there, right=ended)).cdf
    seconds = [start, *found.quantiles, np.concatenate((there, ended)).max()]
    shares = [0.0, *found.probabilities, found.probabilities[-1]]
    for step in np.unique(np.linspace(0, len(seconds) - 1, DRAWN).round().astype(int)):
        yield {
            "backend": case.backend, "scenario": case.scenario, "target": _value(target),
            "seconds": float(seconds[step]), "share": 100 * float(shares[step]), "reached": len(there),
            "runs": len(times),
        }  # fmt: skip


def _grid(trained: Sequence[ShownCase], targets: Sequence[float]) -> Grid:
    accuracy = METRICS["accuracy"]
    columns = ("model", "backend", "scenario", *(f"s to {accuracy.write(target)} %" for target in targets))
    rows = []
    for case in trained:
        cells = []
        seconds, accuracies = _epochs(case)
        for target in targets:
            found = time_to_target(target, seconds, accuracies)
            known = math.isfinite(found.low) or math.isfinite(found.high)
            bounds = f" ({_seconds(found.low)}–{_seconds(found.high)})" if known else ""
            cells.append(f"{_seconds(found.seconds)}{bounds}, {found.reached}/{found.runs}")
        rows.append(GridRow((case.model, case.backend, case.scenario, *cells), case.facets))
    caption = "Seconds until half of the runs reached the target (95 % interval), and number of these runs"
    return Grid(caption, columns, tuple(rows), words=3)


def _seconds(value: float) -> str:
    return METRICS["time_to_accuracy_s"].write(value) if math.isfinite(value) else "∞" if value > 0 else "–"
