"""All figures of a case with their intervals, and each process as a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.report.drawing import BAND, Look, finish, height_of, kept
from results.report.page_data import Process, ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Choice, Grid, GridRow, Section
from results.report.thinning import evenly, omission
from results.tables.columns import METRICS, Metric

POINTS = 2000  # largest number of drawn processes, over all panels
DRAWN = tuple(name for name in METRICS if name != "time_to_accuracy_s")


def figures_section(shown: Sequence[ShownCase], backends: Look, points: int = POINTS) -> Section:
    """Draw a panel per model with a row per scenario and backend. The page selects the metric."""
    total = sum(len(case.processes) for case in shown)
    share = min(1.0, points / total) if total else 1.0
    drawn = {case.number: evenly(case.processes, max(1, round(share * len(case.processes)))) for case in shown}
    metrics = [METRICS[name] for name in DRAWN if any(not math.isnan(case.row[name]) for case in shown)]
    options = tuple((metric.name, described(metric)) for metric in metrics)
    chosen = next((name for name, _ in options if name == "throughput"), options[0][0] if options else "")
    charts = tuple(_chart(panel, drawn, metrics, chosen, backends) for panel in panels(shown)) if options else ()
    void = sum(math.isnan(process.row["throughput"]) for case in shown for process in case.processes)
    return Section(
        id="figures",
        title="Throughput and other figures",
        paragraphs=(
            "A point is a process, a tick the figure of a case, a line its interval. Each panel has one model, because "
            "figures of two models do not compare frameworks.",
        ),
        choices=(Choice("metric", "Metric", options, chosen),) if options else (),
        charts=charts,
        grids=(_grid(shown, metrics),) if options else (),
        notes=(
            *omission(sum(map(len, drawn.values())), total, "processes"),
            *((f"The times of {void} of {total} processes are void; the table gives the reasons.",) if void else ()),
            *(() if options else ("No case has a figure.",)),
        ),
    )


def described(metric: Metric) -> str:
    """Describe a metric with unit and direction."""
    return f"{metric.title}, {metric.unit} ({'higher' if metric.higher_is_better else 'lower'} is better)"


def _chart(
    panel: Panel, drawn: Mapping[int, Sequence[Process]], metrics: Sequence[Metric], chosen: str, look: Look
) -> Chart:
    scenario = alt.Y("scenario:N", sort=panel.scenarios, title=None)
    several = len(panel.backends) > 1
    offset = [alt.YOffset("backend:N", sort=panel.backends)] if several else []
    legend = alt.Legend(title=None) if several else None
    colour = alt.Color("backend:N", scale=look.colour(panel.backends), legend=legend)
    metric = alt.param(name="metric", value=chosen)
    summary = (
        alt.Chart(alt.NamedData("cases"))
        .transform_filter(kept("backend", "scenario"))
        .transform_calculate(
            value="datum[metric]",
            low="isValid(datum[metric + '_low']) ? datum[metric + '_low'] : datum[metric]",
            high="isValid(datum[metric + '_high']) ? datum[metric + '_high'] : datum[metric]",
        )
        .transform_filter("isValid(datum.value)")
    )
    points = (
        alt.Chart(alt.NamedData("processes"))
        .transform_filter(kept("backend", "scenario", "run"))
        .transform_calculate(value="datum[metric]")
        .transform_filter("isValid(datum.value)")
    )
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=True, nice=True))
    of_case = [alt.Tooltip(f"{name}:N") for name in ("scenario", "backend", "runs")]
    of_case += [alt.Tooltip(f"{name}:Q", format=".5~g") for name in ("value", "low", "high")]
    about = [alt.Tooltip(f"{name}:N") for name in ("scenario", "backend", "run", "seed", "started", "status", "marks")]
    about += [alt.Tooltip(f"{one.name}:Q", title=f"{one.title}, {one.unit}", format=".5~g") for one in metrics]
    layers = alt.layer(
        summary.mark_rule(strokeWidth=2.5).encode(
            alt.X("low:Q", title=None), alt.X2("high:Q"), scenario, *offset, colour, tooltip=of_case
        ),
        summary.mark_tick(thickness=3, size=BAND - 6).encode(x, scenario, *offset, colour, tooltip=of_case),
        points.mark_point(filled=True, size=45, opacity=0.55).encode(
            x, scenario, *offset, colour, tooltip=about,
            shape=alt.Shape("backend:N", scale=look.shape(panel.backends), legend=legend),
        ),
    )  # fmt: skip
    return finish(
        f"figures-{panel.number}",
        panel.title,
        f"{panel.title}: the selected metric of each scenario and backend, with its interval and every process.",
        layers,
        {
            "cases": [_case(case, metrics) for case in panel.cases],
            "processes": [_process(case, process, metrics) for case in panel.cases for process in drawn[case.number]],
        },
        panel.facets,
        height_of(len(panel.cases)),
        [metric],
    )


def _case(case: ShownCase, metrics: Sequence[Metric]) -> dict[str, Any]:
    figures = {
        f"{metric.name}{end}": case.row[f"{metric.name}{end}"] * metric.scale
        for metric in metrics
        for end in ("", "_low", "_high")
    }
    return {"backend": case.backend, "scenario": case.scenario, "runs": case.row["runs"], **figures}


def _process(case: ShownCase, process: Process, metrics: Sequence[Metric]) -> dict[str, Any]:
    row = process.row
    return {
        "backend": case.backend,
        "scenario": case.scenario,
        **{name: row[name] for name in ("run", "seed", "started", "status")},
        "marks": ", ".join(row["marks"]) or "none",
        **{metric.name: row[metric.name] * metric.scale for metric in metrics},
    }


def _grid(shown: Sequence[ShownCase], metrics: Sequence[Metric]) -> Grid:
    columns = ("model", "backend", "scenario", *(f"{metric.title}, {metric.unit}" for metric in metrics), "runs")
    rows = tuple(
        GridRow(
            (
                case.model if not case.setting else f"{case.model} · {case.setting}", case.backend, case.scenario,
                *(interval(case, metric) for metric in metrics), str(case.row["runs"]),
            ),
            case.facets,
        )
        for case in shown
    )  # fmt: skip
    return Grid("All figures of all cases with intervals", columns, rows, words=3)


def interval(case: ShownCase, metric: Metric) -> str:
    """Format a figure with its bounds, `182 (176–190)`; a single run has none."""
    value, low, high = (case.row[f"{metric.name}{end}"] for end in ("", "_low", "_high"))
    bounds = f" ({metric.write(low)}–{metric.write(high)})" if not math.isnan(low) else ""
    return f"{metric.write(value)}{bounds}"
