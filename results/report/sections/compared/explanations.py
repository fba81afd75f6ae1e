"""Explanations of `explain`: the answer, and a waterfall from A over each factor to B."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from results.explanations.explanation import Explanation
from results.explanations.shares import Bounded
from results.explanations.wording import TITLES, answer, remarks, rows
from results.report.drawing import INK, finish, height_of
from results.report.section import Chart, Grid, GridRow, Section
from results.tables.wording import plain

KINDS = {"faster": "#009E73", "slower": "#D55E00", "unexplained": "#8C8C8C", "measured directly": "#1B7FC4"}
SPEED = "speed as a multiple of A"


def explanations_section(explanations: Sequence[Explanation]) -> Section | None:
    """Show the explanations of a results folder, the latest first; None without any."""
    if not explanations:
        return None
    latest = explanations[::-1]
    return Section(
        "explanations",
        "Why one side is faster",
        paragraphs=tuple(plain(" ".join(answer(one))) for one in latest),
        charts=tuple(_waterfall(number, one) for number, one in enumerate(latest)),
        grids=tuple(
            Grid(plain(one.label), TITLES, tuple(GridRow(tuple(map(plain, row))) for row in rows(one)), words=2)
            for one in latest
        ),
        notes=tuple(plain(f"{one.label}: {'; '.join(remarks(one))}.") for one in latest),
    )


def _waterfall(number: int, explanation: Explanation) -> Chart:
    steps = list(_steps(explanation))
    y = alt.Y("name:N", sort=[step["name"] for step in steps], title=None, axis=alt.Axis(labelLimit=260))
    x = alt.X("begin:Q", title=SPEED, scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~g"))
    kinds = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    colour = alt.Color("kind:N", scale=kinds, legend=alt.Legend(title=None))
    tooltip = [alt.Tooltip("name:N"), *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("times", "low", "high"))]
    base = alt.Chart(alt.NamedData("steps"))
    chart = alt.layer(
        base.mark_bar(opacity=0.75).encode(x, alt.X2("end:Q"), y, colour, tooltip=tooltip),
        base.mark_rule(strokeWidth=2, color=INK).encode(alt.X("low_end:Q", title=SPEED), alt.X2("high_end:Q"), y),
    )
    label = plain(explanation.label)
    about = f"{label}: from the speed of A, each factor moves the speed towards that of B; lines are 95 % intervals."
    made = finish(f"explanations-{number}", label, about, chart, {"steps": steps}, height=height_of(len(steps)))
    return made._replace(wide=True)


def _steps(explanation: Explanation) -> Iterator[dict[str, Any]]:
    """Yield the bars from A to B. An interval is drawn around the end of its bar."""
    shares, at = explanation.shares, 0.0
    for factor, share in zip(explanation.factors, shares.factors, strict=True):
        log = share.log_speed_up
        yield _bar(f"{factor.name}: {' → '.join(factor.texts)}", at, log, "faster" if log.value > 0 else "slower")
        at += log.value
    yield _bar("unexplained", at, shares.unexplained, "unexplained")
    yield _bar("B", 0.0, shares.direct, "measured directly")


def _bar(name: str, start: float, log: Bounded, kind: str) -> dict[str, Any]:
    """Return a bar from the speed e^`start` on, multiplied by a factor with its interval."""
    begin = math.exp(start)
    times, low, high = log.speed_up
    return {
        "name": plain(name), "kind": kind, "times": times, "low": low, "high": high,
        "begin": begin, "end": begin * times, "low_end": begin * low, "high_end": begin * high,
    }  # fmt: skip
