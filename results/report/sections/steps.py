"""Step times: warm-up, drift and stalls, as a strip per case and as points of the selected case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np

from results.report.drawing import SHAPES, finish, height_of, kept
from results.report.page_data import Process, ShownCase
from results.report.panels import Panel, panels
from results.report.section import Chart, Choice, Section
from results.report.thinning import peaks

KINDS = {"first": "#D55E00", "warmup": "#E69F00", "throughput": "#1B7FC4", "latency": "#009E73"}
DRAWN, FEWEST = 240, 40
"""Largest number of drawn steps of a process, for few and for many cases."""
ALL = 20_000  # largest number of drawn steps over all cases


def steps_section(shown: Sequence[ShownCase], points: int = ALL) -> Section:
    """Draw a strip per case for the lowest seed, and the points of up to three processes of one case."""
    timed = [case for case in shown if any(len(process.step_us) for process in case.processes)]
    if not timed:
        return Section("steps", "Step times", notes=("No step was timed.",))
    limit = max(FEWEST, min(DRAWN, points // len(timed)))
    names = tuple((str(case.number), case.name) for case in timed)
    most = max(len(process.step_us) for case in timed for process in case.processes)
    return Section(
        "steps",
        "Step times",
        paragraphs=(
            "Each strip is one process from its first step to its last. The colour is the step time divided by the "
            "median of the throughput window of the stage: dark steps are usual, bright steps are slow. Steps of the "
            "latency window are synchronised, the others are not.",
        ),
        choices=(Choice("chosen", "Step by step", names, names[0][0]),),
        charts=(
            *(_strips(panel, limit) for panel in panels(timed, by_backend=True)),
            _points(timed, limit)._replace(wide=True),
        ),
        notes=(
            f"A process has up to {most} steps. At most {limit} are drawn: the slowest of each group of neighbours.",
        )
        if most > limit
        else (),
    )


def kinds(process: Process) -> list[str]:
    """Return the kind of window of each step."""
    return [w.kind for stage in process.record.stages for w in stage.windows for _ in range(w.steps)]


def _steps(process: Process, limit: int) -> Iterator[dict[str, Any]]:
    of = kinds(process)
    steps, usual = process.step_us[: len(of)], _usual(process)
    places = peaks(steps, limit)
    for place, end in zip(places, [*places[1:], len(steps)], strict=True):
        yield {
            "step": int(place) + 1,
            "next": int(end) + 1,
            "ms": float(steps[place]) / 1000,
            "usual": float(steps[place]) / usual[place] if usual[place] else None,
            "kind": of[place],
        }


def _usual(process: Process) -> list[float]:
    """Return for each step the median of the throughput window of its stage."""
    found: list[float] = []
    for stage in process.record.stages:
        counts = [window.steps for window in stage.windows]
        steps = process.step_us[len(found) : len(found) + sum(counts)]
        of = [window.kind for window in stage.windows for _ in range(window.steps)]
        timed = [step for step, kind in zip(steps, of, strict=True) if kind == "throughput"]
        found += [float(np.median(timed or steps))] * len(steps)
    return found


def _first(case: ShownCase) -> Process:
    return min((process for process in case.processes if len(process.step_us)), key=lambda process: process.row["seed"])


def _strips(panel: Panel, limit: int) -> Chart:
    rows = [{"scenario": case.scenario, **step} for case in panel.cases for step in _steps(_first(case), limit)]
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("scenario", "step", "kind")]
    tooltip += [alt.Tooltip("ms:Q", format=".4~g"), alt.Tooltip("usual:Q", title="× median", format=".3~g")]
    colour = alt.Color(
        "usual:Q",
        scale=alt.Scale(type="log", scheme="cividis", domain=[0.5, 8], clamp=True),
        legend=alt.Legend(title="× median", gradientLength=120, tickCount=4, format="~g"),
    )
    chart = (
        alt.Chart(alt.NamedData("steps"))
        .transform_filter(kept("scenario"))
        .mark_rect()
        .encode(
            alt.X("step:Q", title="step", scale=alt.Scale(nice=False, zero=False)),
            alt.X2("next:Q"),
            alt.Y("scenario:N", sort=panel.scenarios, title=None),
            colour,
            tooltip=tooltip,
        )
    )
    about = f"{panel.title}: a strip per scenario with the steps of one process, bright for slow steps."
    height = height_of(len(panel.cases))
    return finish(f"steps-{panel.number}", panel.title, about, chart, {"steps": rows}, panel.facets, height)


def _points(timed: Sequence[ShownCase], limit: int) -> Chart:
    rows = [
        {"case": str(case.number), "run": process.row["run"], "seed": process.row["seed"], **step}
        for case in timed
        for process in sorted(case.processes, key=lambda process: process.row["seed"])[:3]
        for step in _steps(process, limit)
    ]
    domain, legend = list(KINDS), alt.Legend(title=None)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("step", "kind", "seed", "run")]
    chart = (
        alt.Chart(alt.NamedData("steps"))
        .transform_filter(f"datum.case === chosen && {kept('run')}")
        .mark_point(filled=True, size=25, opacity=0.7)
        .encode(
            alt.X("step:Q", title="step", scale=alt.Scale(zero=False)),
            alt.Y("ms:Q", title="step, ms", scale=alt.Scale(type="log")),
            alt.Color("kind:N", scale=alt.Scale(domain=domain, range=list(KINDS.values())), legend=legend),
            alt.Shape("kind:N", scale=alt.Scale(domain=domain, range=list(SHAPES[: len(domain)])), legend=legend),
            tooltip=[*tooltip, alt.Tooltip("ms:Q", format=".4~g")],
        )
    )  # fmt: skip
    # `case` is a keyword in Vega's expressions.
    chosen = alt.param(name="chosen", value=str(timed[0].number))
    about = "Every step of the selected case with its time and its window."
    return finish("steps-points", "Step by step", about, chart, {"steps": rows}, params=[chosen])
