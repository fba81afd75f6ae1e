"""The wall time and the memory of a process, by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import altair as alt
import numpy as np

from results.report.drawing import Look, finish, height_of, kept, look
from results.report.page_data import ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Grid, GridRow, Section

GATHERED = MappingProxyType({
    "start": "start", "open files": "start", "import": "start", "build": "start", "load": "start", "setup": "start",
    "prepare": "feed", "wait": "feed", "fetch": "feed", "transfer": "transfer", "first step": "first step",
    "evaluation": "evaluation", "audit": "audit and other", "other": "audit and other",
})  # fmt: skip
"""Parts of the wall time that are drawn together; other parts are drawn separately."""
ORDER = ("start", "feed", "transfer", "first step")
LAST = ("evaluation", "audit and other")


def wall_section(shown: Sequence[ShownCase]) -> Section:
    """Draw stacked bars of the parts of the wall time."""
    known = [case for case in shown if any(process.record.wall_s for process in case.processes)]
    if not known:
        return Section("wall", "Where the time goes", notes=("No process recorded the parts of its time.",))
    seen = list(dict.fromkeys(part for case in known for part in parts(case)))
    middle = [part for part in seen if part not in (*ORDER, *LAST)]
    order = [part for part in (*ORDER, *middle, *LAST) if part in seen]
    return Section(
        "wall",
        "Where the time goes",
        paragraphs=(
            "The time of a process from start to end, as a mean over the processes of a case. The parts do not overlap "
            "and their sum is the whole time. Parts that a backend cannot separate are one part with a joint name.",
        ),
        charts=tuple(_bars(panel, order, look(order)) for panel in panels(known)),
        grids=(_grid(known),),
    )


def parts(case: ShownCase) -> dict[str, float]:
    """Return the seconds of each drawn part, as a mean over processes."""
    found: dict[str, float] = {}
    for process in case.processes:
        for name, seconds in process.record.wall_s.items():
            part = GATHERED.get(name, name)
            found[part] = found.get(part, 0.0) + seconds / len(case.processes)
    return found


def _bars(panel: Panel, order: Sequence[str], colours: Look) -> Chart:
    rows = [
        {"backend": case.backend, "scenario": case.scenario, "part": part, "seconds": seconds, "place": place}
        for case in panel.cases
        for place, part in enumerate(order)
        if (seconds := parts(case).get(part))
    ]
    return _stacked("wall", panel, rows, order, colours, "wall time, s")


def _stacked(
    id: str, panel: Panel, rows: Sequence[dict[str, Any]], order: Sequence[str], colours: Look, title: str
) -> Chart:
    measure = "seconds" if id == "wall" else "mb"
    several = len(panel.backends) > 1
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "backend", "part")]
    chart = (
        alt.Chart(alt.NamedData("parts"))
        .transform_filter(kept("backend", "scenario"))
        .mark_bar(stroke="#fff", strokeWidth=0.5)
        .encode(
            alt.X(f"{measure}:Q", title=title, stack="zero"),
            alt.Y("scenario:N", sort=panel.scenarios, title=None),
            *([alt.YOffset("backend:N", sort=panel.backends)] if several else []),
            alt.Color("part:N", scale=colours.colour(order), sort=list(order), legend=alt.Legend(title=None)),
            order="place:Q",
            tooltip=[*tooltip, alt.Tooltip(f"{measure}:Q", format=".4~g")],
        )
    )
    backends = f" Backends from top to bottom: {', '.join(panel.backends)}." if several else ""
    about = f"{panel.title}: {title} of each scenario by part.{backends}"
    heading = f"{panel.title} ({' above '.join(panel.backends)})" if several else panel.title
    height = height_of(len(panel.cases))
    return finish(f"{id}-{panel.number}", heading, about, chart, {"parts": rows}, panel.facets, height)


def _grid(known: Sequence[ShownCase]) -> Grid:
    names = list(dict.fromkeys(name for case in known for p in case.processes for name in p.record.wall_s))
    rows = []
    for case in known:
        means = [np.mean([process.record.wall_s.get(name, 0.0) for process in case.processes]) for name in names]
        total = math.fsum(float(mean) for mean in means)
        cells = (*(f"{mean:.2f}" for mean in means), f"{total:.2f}")
        rows.append(GridRow((case.model, case.backend, case.scenario, *cells), case.facets))
    return Grid("All parts in seconds", ("model", "backend", "scenario", *names, "sum"), tuple(rows), words=3)


def memory_section(shown: Sequence[ShownCase]) -> Section:
    """Draw stacked bars of the memory before the model and of the rest up to the peak."""
    known = [case for case in shown if any(process.record.memory for process in case.processes)]
    if not known:
        return Section("memory", "Memory", notes=("No process recorded its memory.",))
    device = any(p.record.memory and p.record.memory.device_peak is not None for case in known for p in case.processes)
    order = [FRAMEWORK, REST]
    return Section(
        "memory",
        "Memory",
        paragraphs=(
            "Peak memory of a process with its libraries, in 10⁶ bytes, as a mean over the processes of a case: the "
            "memory before the model was built, and the rest up to the peak.",
        ),
        charts=tuple(
            _stacked("memory", panel, [row for case in panel.cases for row in _memory(case)], order, look(order), "MB")
            for panel in panels(known)
        ),
        notes=("The peak on the device is in the table of all figures.",) if device else (),
    )


FRAMEWORK, REST = "before the model", "model and training"


def _memory(case: ShownCase) -> list[dict[str, Any]]:
    recorded = [process.record.memory for process in case.processes if process.record.memory]
    framework = float(np.mean([memory.framework for memory in recorded])) / 1e6
    peak = float(np.mean([memory.process_peak for memory in recorded])) / 1e6
    common = {"backend": case.backend, "scenario": case.scenario}
    return [
        {**common, "part": FRAMEWORK, "mb": framework, "place": 0},
        {**common, "part": REST, "mb": max(0.0, peak - framework), "place": 1},
    ]
