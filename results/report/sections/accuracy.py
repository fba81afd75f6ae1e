"""Accuracy against training time: all cases with the Pareto front, and the curves of the scenarios."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from results.report.drawing import Look, finish, kept
from results.report.page_data import ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Section
from results.tables.time_to_accuracy import sentences
from results.tables.wording import plain

WIDE = 30
"""Ratio of the longest to the shortest training time above which the axis is logarithmic."""

RACED = 2000
"""Largest number of processes for the bootstrap of the leading scenarios."""


def accuracy_section(frame: pd.DataFrame, shown: Sequence[ShownCase], scenarios: Look, arms: Look) -> Section:
    """Draw one overview per setting, and a panel of curves per model. `arms` is the look of models and backends."""
    judged = [case for case in shown if _placed(case)]
    settings = list(dict.fromkeys(case.setting for case in judged))
    overviews = [
        _overview(number, [case for case in judged if case.setting == setting], scenarios, arms)
        for number, setting in enumerate(settings)
    ]
    curves = [_curves(panel, scenarios, arms) for panel in panels(judged)]
    raced = [f"{plain(one)}." for one in sentences(frame)] if len(frame) <= RACED else []
    lacking = len(shown) - len(judged)
    return Section(
        id="accuracy",
        title="Accuracy against training time",
        paragraphs=(
            "The overview shows each case with the intervals of training time and accuracy. The dashed line and the "
            "rings mark the Pareto front: no other case is both faster and more accurate. The curves show the "
            "validation accuracy after each epoch: the mean over processes, with a band from lowest to highest.",
            *raced,
        )
        if judged
        else (),
        charts=(*overviews, *curves),
        notes=(
            *((f"{lacking} of {len(shown)} cases have no accuracy and are not drawn.",) if lacking else ()),
            *(() if judged else ("No case has an accuracy and a training time.",)),
        ),
    )


def front(cases: Sequence[ShownCase]) -> list[ShownCase]:
    """Return the cases for which no other case is both faster and more accurate, fastest first."""
    order = sorted(cases, key=lambda case: (case.row["train_s"], -case.row["accuracy"]))
    best, found = -math.inf, []
    for case in order:
        if case.row["accuracy"] > best:
            best = case.row["accuracy"]
            found.append(case)
    return found


def _placed(case: ShownCase) -> bool:
    return math.isfinite(case.row["accuracy"]) and math.isfinite(case.row["train_s"])


def arm(case: ShownCase) -> str:
    """Return the model and the backend of a case in one name."""
    return f"{case.model} · {case.backend}"


def widely(seconds: Sequence[float]) -> bool:
    """Tell whether times differ so much that the axis is logarithmic."""
    return max(seconds) > WIDE * min(seconds) > 0


def time_axis(seconds: Sequence[float], title: str) -> alt.X:
    """Return an axis of seconds, logarithmic if they differ widely."""
    scale = alt.Scale(type="log", nice=False) if widely(seconds) else alt.Scale(zero=True)
    return alt.X("seconds:Q", title=title, scale=scale)


def _overview(number: int, cases: Sequence[ShownCase], scenarios: Look, arms: Look) -> Chart:
    names = list(dict.fromkeys(case.scenario for case in cases))
    pairs = list(dict.fromkeys(arm(case) for case in cases))
    x = time_axis([case.row["train_s"] for case in cases], "training, s")
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    colour = alt.Color("scenario:N", scale=scenarios.colour(names), legend=alt.Legend(title="scenario"))
    legend = alt.Legend(title="model · backend", columns=1, labelLimit=0)
    shape = alt.Shape("arm:N", scale=arms.shape(pairs), legend=legend)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "arm", "runs", "seeds", "front")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("accuracy", "seconds")]
    base = alt.Chart(alt.NamedData("cases")).transform_filter(kept("model", "backend", "scenario"))
    chart = alt.layer(
        alt.Chart(alt.NamedData("front"))
        .mark_line(interpolate="step-after", strokeDash=[5, 4], color="#8C8C8C")
        .encode(x, y, order="seconds:Q"),
        base.mark_rule(opacity=0.6).encode(alt.X("fast:Q", title="training, s"), alt.X2("slow:Q"), y, colour),
        base.mark_rule(opacity=0.6).encode(x, alt.Y("low:Q", title="accuracy, %"), alt.Y2("high:Q"), colour),
        base.transform_filter("datum.front === 'yes'").mark_point(size=280, color="#8C8C8C").encode(x, y),
        base.mark_point(filled=True, size=90, opacity=0.9).encode(x, y, colour, shape, tooltip=tooltip),
    )
    setting, best = cases[0].setting, front(cases)
    title = " · ".join(part for part in ("All cases", setting) if part)
    about = "Accuracy of every case against its training time, with intervals and the Pareto front."
    data = {
        "cases": [_point(case, case in best) for case in cases],
        "front": [{"seconds": case.row["train_s"], "accuracy": case.row["accuracy"] * 100} for case in best],
    }
    return finish(f"accuracy-all-{number}", title, about, chart, data, {"setting": setting}, height=340)


def _point(case: ShownCase, on_front: bool) -> dict[str, Any]:
    row = case.row
    value = {name: row[name] for name in ("train_s", "accuracy")}
    bound = {f"{name}{end}": row[f"{name}{end}"] for name in value for end in ("_low", "_high")}
    ends = {name: figure if math.isfinite(figure) else value[name.rsplit("_", 1)[0]] for name, figure in bound.items()}
    return {
        "backend": case.backend,
        "model": case.model,
        "scenario": case.scenario,
        "arm": arm(case),
        "runs": row["runs"],
        "seeds": row["seeds"],
        "front": "yes" if on_front else "no",
        "seconds": row["train_s"],
        "fast": ends["train_s_low"],
        "slow": ends["train_s_high"],
        "accuracy": row["accuracy"] * 100,
        "low": ends["accuracy_low"] * 100,
        "high": ends["accuracy_high"] * 100,
    }


def _curves(panel: Panel, scenarios: Look, arms: Look) -> Chart:
    rows = [point for case in panel.cases for point in _curve(case)]
    x = time_axis([row["seconds"] for row in rows], "training, s")
    y = alt.Y("accuracy:Q", title="validation accuracy, %", scale=alt.Scale(zero=False))
    colour = alt.Color("scenario:N", scale=scenarios.colour(panel.scenarios), legend=alt.Legend(title=None))
    shape = alt.Shape("scenario:N", scale=scenarios.shape(panel.scenarios), legend=alt.Legend(title=None))
    several = len(panel.backends) > 1
    dash = [alt.StrokeDash("backend:N", scale=arms.dash(panel.backends), legend=alt.Legend(title=None))]
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "backend", "epoch", "processes")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("accuracy", "low", "high", "seconds")]
    base = alt.Chart(alt.NamedData("epochs")).transform_filter(kept("backend", "scenario"))
    chart = alt.layer(
        base.mark_area(opacity=0.15).encode(
            x, alt.Y("low:Q", title="validation accuracy, %"), alt.Y2("high:Q"), colour, detail="backend:N"
        ),
        base.mark_line(strokeWidth=2).encode(x, y, colour, *(dash if several else []), detail="backend:N"),
        base.mark_point(filled=True, size=35, opacity=1).encode(x, y, colour, shape, tooltip=tooltip),
    )
    about = f"{panel.title}: validation accuracy of each scenario after each epoch against seconds of training."
    return finish(f"accuracy-{panel.number}", panel.title, about, chart, {"epochs": rows}, panel.facets)


def _curve(case: ShownCase) -> Iterator[dict[str, Any]]:
    curves = np.array([process.row["epoch_val_accuracy"] for process in case.processes])  # [processes, epochs]
    seconds = np.array([process.row["epoch_seconds"] for process in case.processes]).cumsum(axis=1).mean(axis=0)
    for epoch, accuracies in enumerate(curves.T):
        yield {
            "backend": case.backend, "scenario": case.scenario, "epoch": epoch + 1, "processes": len(curves),
            "seconds": float(seconds[epoch]), "accuracy": 100 * float(accuracies.mean()),
            "low": 100 * float(accuracies.min()), "high": 100 * float(accuracies.max()),
        }  # fmt: skip
