"""The roofline of each measured ceiling: the passes of its layers, and what the cases reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from harness.ceiling.ceiling import Ceiling
from results.ceilings.utilisation import CaseRate, fastest, reached
from results.report.drawing import INK, PALETTE, finish
from results.report.page_data import Material
from results.report.section import Chart, Section
from results.tables.wording import counted, plain

PASSES = ("forward", "input gradient", "weight gradient")
ABOUT = (
    "Each point is one pass of one layer, computed alone on this machine. Its height is the speed of its arithmetic. "
    "It is further to the right if it does more arithmetic for each byte of its input, output and weights. The line is "
    "the highest measured rate: on the left that of moving bytes, on the right that of arithmetic. Layers below the "
    "slope wait for memory. A cross is a whole case: the arithmetic of its steps, divided by their time."
)
NOTE = (
    "Bytes are counted once for each tensor of a pass. Caches and copies make the real traffic smaller or larger, and "
    "the highest rate of moving bytes may be that of a cache."
)


def ceiling_section(material: Material) -> Section | None:
    """Draw the fastest ceiling of each kind; None without a ceiling that has the bytes of its layers."""
    drawn = [ceiling for ceiling in fastest(material.ceilings).values() if ceiling.bytes_per_second]
    if not drawn:
        return None
    cases = list(reached(material.frame, drawn)) if "mfu" in material.frame else []
    charts = tuple(
        _chart(number, ceiling, [case for case in cases if case.ceiling is ceiling])
        for number, ceiling in enumerate(drawn)
    )
    return Section("ceiling", "Ceiling of the machine", paragraphs=(ABOUT,), charts=charts, notes=(NOTE,))


def _chart(number: int, ceiling: Ceiling, cases: Sequence[CaseRate]) -> Chart:
    name = plain(
        f"{ceiling.model} · {ceiling.image_size} px · batch {ceiling.batch_size} · {ceiling.precision} · "
        f"{ceiling.device} · {counted(ceiling.threads, 'thread')}"
    )
    x = alt.X("intensity:Q", title="FLOPs per byte", scale=alt.Scale(type="log"))
    y = alt.Y("gflops:Q", title="GFLOP/s", scale=alt.Scale(type="log"))
    scale = alt.Scale(domain=list(PASSES), range=list(PALETTE[:3]))
    kind = alt.Color("pass:N", scale=scale, legend=alt.Legend(title=None))
    figures = [alt.Tooltip(f"{field}:Q", format=".3~g") for field in ("gflops", "intensity")]
    line = alt.Chart(alt.NamedData("roof")).mark_line(color=INK, opacity=0.6, strokeWidth=2).encode(x, y)
    layers = (
        alt.Chart(alt.NamedData("layers"))
        .mark_point(filled=True, size=40, opacity=0.7)
        .encode(x, y, kind, tooltip=["layer:N", "pass:N", *figures])
    )
    whole = (
        alt.Chart(alt.NamedData("cases"))
        .mark_point(shape="cross", filled=True, size=160, opacity=1, color=INK)
        .encode(x, y, tooltip=["case:N", *figures])
    )
    about = f"{name}: GFLOP/s against FLOPs per byte, for each pass of a layer and for whole cases."
    data = {"roof": list(_roof(ceiling)), "layers": list(_layers(ceiling)), "cases": list(map(_case, cases))}
    return finish(f"ceiling-{number}", name, about, alt.layer(line, layers, whole), data, height=300)


def _roof(ceiling: Ceiling) -> Iterator[dict[str, float]]:
    """Yield the ends of the line and its bend."""
    peak, moved = ceiling.peak[0], ceiling.bytes_per_second
    intensities = [rate.intensity for rate in ceiling.rates()]
    for intensity in sorted({min(intensities), peak / moved, max(intensities)}):
        yield {"intensity": intensity, "gflops": min(peak, moved * intensity) / 1e9}


def _layers(ceiling: Ceiling) -> Iterator[dict[str, Any]]:
    for one in ceiling.rates():
        yield {"layer": plain(one.layer), "pass": one.step, "gflops": one.rate / 1e9, "intensity": one.intensity}


def _case(case: CaseRate) -> dict[str, Any]:
    return {"case": plain(case.name), "gflops": case.rate / 1e9, "intensity": case.intensity}
