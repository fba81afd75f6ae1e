"""Learning curves: loss and accuracy on training and validation images after each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import altair as alt
import numpy as np

from harness.running.record import Epoch
from results.report.drawing import Look, finish, kept
from results.report.page_data import Process, ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Section

QUALITIES = {"loss": ("loss, nats", 1.0), "accuracy": ("accuracy, %", 100.0)}


def learning_section(shown: Sequence[ShownCase], scenarios: Look) -> Section:
    """Draw two charts per model and backend, with means over processes and the range of the validation figures."""
    trained = [case for case in shown if any(epochs(process) for process in case.processes)]
    charts = [_chart(panel, quality, scenarios) for panel in panels(trained, by_backend=True) for quality in QUALITIES]
    return Section(
        id="learning",
        title="Learning curves",
        paragraphs=(
            "Loss and accuracy after each epoch, in inference mode. Solid lines are validation, dashed lines training. "
            "Lines are means over processes; the band is the range of the validation figures.",
        )
        if charts
        else (),
        charts=tuple(charts),
        notes=() if charts else ("No case finished an epoch.",),
    )


def epochs(process: Process) -> list[Epoch]:
    """Return the epochs of all stages, in order."""
    return [epoch for stage in process.record.stages for epoch in stage.epochs]


def _chart(panel: Panel, quality: str, scenarios: Look) -> Chart:
    title, scale = QUALITIES[quality]
    rows = [row for case in panel.cases for row in _curve(case, quality, scale)]
    splits = ["validation", "training"]
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    colour = alt.Color("scenario:N", scale=scenarios.colour(panel.scenarios), legend=alt.Legend(title=None))
    shape = alt.Shape("scenario:N", scale=scenarios.shape(panel.scenarios), legend=alt.Legend(title=None))
    solid = alt.Scale(domain=splits, range=[[1, 0], [4, 3]])
    dash = alt.StrokeDash("split:N", scale=solid, legend=alt.Legend(title=None))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "split", "epoch", "processes")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("value", "low", "high")]
    base = alt.Chart(alt.NamedData("epochs")).transform_filter(kept("scenario"))
    chart = alt.layer(
        base.transform_filter("datum.split === 'validation'")
        .mark_area(opacity=0.13)
        .encode(x, alt.Y("low:Q", title=title), alt.Y2("high:Q"), colour),
        base.mark_line(strokeWidth=2).encode(x, y, colour, dash),
        base.mark_point(filled=True, size=35, opacity=1).encode(x, y, colour, shape, tooltip=tooltip),
    )
    about = f"{panel.title}: {quality} on training and validation images after each epoch, by scenario."
    id = f"learning-{quality}-{panel.number}"
    return finish(id, f"{panel.title}: {quality}", about, chart, {"epochs": rows}, panel.facets)


def _curve(case: ShownCase, quality: str, scale: float) -> Iterator[dict[str, Any]]:
    curves = [epochs(process) for process in case.processes]
    for split, short in (("training", "train"), ("validation", "val")):
        value = attrgetter(f"{short}_{quality}")
        found = [list(map(value, curve)) for curve in curves]  # [processes, epochs]
        if any(None in curve for curve in found):  # training images are not always evaluated
            continue
        values = scale * np.array(found)
        for number, (mean, low, high) in enumerate(zip(values.mean(0), values.min(0), values.max(0), strict=True), 1):
            yield {
                "scenario": case.scenario, "split": split, "epoch": number, "processes": len(curves),
                "value": float(mean), "low": float(low), "high": float(high),
            }  # fmt: skip
