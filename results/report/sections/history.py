"""The history of each case on each machine: one point per run, new environments, and changes of level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from results.report.drawing import finish, kept
from results.report.page_data import Material
from results.report.section import Chart, Choice, Facets, Grid, GridRow, Section
from results.report.sections.figures import described
from results.tables.columns import METRICS
from results.tables.wording import plain
from results.verdicts.accepted import read_accepted
from results.verdicts.history import FOLLOWED, Change, Series, history

DRAWN = 24
"""Largest number of drawn cases: those with a change first, then those with the most runs."""
KINDS = {"worse": "#D55E00", "better": "#009E73", "accepted": "#8C8C8C"}


def history_section(material: Material) -> Section | None:
    """Draw a panel per case and machine; None if no case has two runs."""
    if material.frame.empty:
        return None
    followed = [one for one in history(material.frame, read_accepted(material.results_dir)) if _runs(one) > 1]
    if not followed:
        return None
    cases: dict[tuple[str, str, str], list[Series]] = {}
    for one in followed:
        cases.setdefault((one.machine, one.version, one.label), []).append(one)
    order = sorted(cases.values(), key=lambda series: (-sum(map(_changes, series)), -max(map(_runs, series))))
    machines, labels = {one.machine for one in followed}, [series[0].label for series in cases.values()]
    charts = [
        _chart(number, series, several=len(machines) > 1, again=labels.count(series[0].label) > 1)
        for number, series in enumerate(order[:DRAWN])
    ]
    metrics = [name for name in FOLLOWED if any(one.metric == name for one in followed)]
    options = tuple((name, described(METRICS[name])) for name in metrics)
    return Section(
        "history",
        "History",
        paragraphs=(
            "Each point is a run. A dashed line marks a new environment. Only runs in one environment are compared. A "
            "change is reported if two methods find a permanent change of the level. It is only a warning.",
        ),
        choices=(Choice("followed", "Metric", options, options[0][0]),),
        charts=tuple(charts),
        grids=(_grid(followed),),
        notes=(f"{DRAWN} of {len(cases)} cases are drawn, those with a change first; the table has all cases.",)
        if len(cases) > DRAWN
        else (),
    )


def _runs(one: Series) -> int:
    return sum(len(segment.points) for segment in one.segments)


def _changes(one: Series) -> int:
    return sum(len(segment.changes) for segment in one.segments)


def _facets(label: str) -> Facets:
    """Split a label into backend, model and scenario."""
    return dict(zip(("backend", "model", "scenario"), map(plain, label.split("/", 2)), strict=False))


def _kind(change: Change) -> str:
    return "accepted" if change.accepted else "worse" if change.worse else "better"


def _size(change: Change, metric: str) -> str:
    return f"{change.change:+.1f} points" if metric == "accuracy" else f"{100 * change.change:+.1f} %"


def _points(series: Sequence[Series]) -> Iterator[dict[str, Any]]:
    for one in series:
        scale = METRICS[one.metric].scale
        for number, segment in enumerate(one.segments):
            changes = {change.run: change for change in segment.changes}
            for place, point in enumerate(segment.points):
                change = changes.get(point.run)
                yield {
                    "metric": one.metric, "run": point.run, "started": point.started, "value": point.value * scale,
                    "processes": point.processes, "segment": number,
                    "began": plain(segment.began) if place == 0 and number else None,
                    "kind": _kind(change) if change else None,
                    "change": _size(change, one.metric) if change else None,
                }  # fmt: skip


def _chart(number: int, series: Sequence[Series], *, several: bool, again: bool) -> Chart:
    first = series[0]
    extra = [*([first.machine] if several else []), *([first.version[:6]] if again else [])]
    title = " · ".join([plain(first.label), *extra])
    base = alt.Chart(alt.NamedData("runs")).transform_filter(f"datum.metric === followed && {kept('run')}")
    x = alt.X("started:T", title="run")
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    kinds = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    shapes = alt.Scale(domain=list(KINDS), range=["triangle-down", "triangle-up", "diamond"])
    legend = alt.Legend(title="level changed")
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("run", "started", "processes")]
    tooltip.append(alt.Tooltip("value:Q", format=".5~g"))
    changed = [*tooltip, alt.Tooltip("kind:N"), alt.Tooltip("change:N")]
    began = [alt.Tooltip("began:N", title="new"), *tooltip]
    chart = alt.layer(
        base.transform_filter("isValid(datum.began)").mark_rule(strokeDash=[5, 4], color="#8C8C8C", strokeWidth=2)
        .encode(x, tooltip=began),
        base.mark_line(color="#1B7FC4", opacity=0.5).encode(x, y, detail="segment:N"),
        base.mark_point(filled=True, size=35, opacity=1, color="#1B7FC4").encode(x, y, tooltip=tooltip),
        base.transform_filter("isValid(datum.kind)").mark_point(filled=True, size=140, opacity=1).encode(
            x, y, alt.Color("kind:N", scale=kinds, legend=legend), alt.Shape("kind:N", scale=shapes, legend=legend),
            tooltip=changed,
        ),
    )  # fmt: skip
    about = f"{title}: the selected metric of every run over time, and the changes of its level."
    params = [alt.param(name="followed", value=first.metric)]
    facets = _facets(first.label)
    return finish(f"history-{number}", title, about, chart, {"runs": list(_points(series))}, facets, 200, params)


def _grid(followed: Sequence[Series]) -> Grid:
    rows = []
    for one in followed:
        metric = METRICS[one.metric]
        for segment in one.segments:
            changes = "; ".join(
                f"{_size(change, one.metric)} from {change.started[:10]}, {_kind(change)}"
                f"{f' ({change.accepted})' if change.accepted else ''}, p {change.p:.2g}"
                for change in segment.changes
            )
            latest = metric.write(segment.points[-1].value)
            cells = (one.label, one.machine, f"{metric.title}, {metric.unit}", segment.began,
                     changes or segment.note or "none", latest, str(len(segment.points)))  # fmt: skip
            rows.append(GridRow(tuple(map(plain, cells)), _facets(one.label)))
    columns = ("case", "machine", "metric", "new in the environment", "changes", "latest", "runs")
    return Grid("All series with their changes", columns, tuple(rows), words=5)
