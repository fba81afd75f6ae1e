"""Scaling over devices: images per second of each number of devices, with its interval, beside a proportional gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from results.certificates.certificate import Certificates
from results.report.drawing import INK, finish
from results.report.section import Chart, Grid, GridRow, Section
from results.scaling.gain import ANOTHER_NORM, Gain, Interval, break_even, gain_of
from results.tables.wording import plain
from results.verdicts.stored_comparisons import StoredComparison

KINDS = {"strong": "#1B7FC4", "weak": "#D55E00"}
SHAPES = ("circle", "square")
SPEED = "speed-up over the first number of devices"
NOTE = "Strong scaling divides one batch; in weak scaling each device has its batch, which is another training."


def scaling_section(compared: Sequence[StoredComparison], certificates: Certificates) -> Section | None:
    """Show the comparisons of `scaling`; None without any. Each case and norm scope has a chart of its own."""
    found = [
        (one, gain)
        for one in compared
        if one.comparison is not None
        and one.comparison.purpose == "scaling"
        and (gain := gain_of(one, certificates)) is not None
    ]
    if not found:
        return None
    groups: dict[str, list[Gain]] = {}
    for _, gain in found:
        if gain.speedup is not None:
            groups.setdefault(_name(gain), []).append(gain)
    return Section(
        "scaling",
        "Further devices",
        charts=tuple(_chart(number, name, gains) for number, (name, gains) in enumerate(groups.items())),
        grids=(_grid(found),),
        notes=(NOTE,),
    )


def _name(gain: Gain) -> str:
    one, other = gain.cases
    scope = f" · {ANOTHER_NORM}" if other.norm_scope == "device" else ""
    return plain(f"{one.backend_name} · {one.model} · {one.scenario.name}{scope}")


def _chart(number: int, name: str, gains: Sequence[Gain]) -> Chart:
    rows = list(_rows(gains))
    most = max(gain.cases[1].devices / gain.cases[0].devices for gain in gains)
    kind = alt.Color(
        "kind:N", scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())), legend=alt.Legend(title=None)
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(SHAPES)), legend=alt.Legend(title=None))
    x = alt.X("factor:Q", title="devices, as a multiple of the first number", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("speedup:Q", title=SPEED, scale=alt.Scale(zero=True))
    tooltip = [alt.Tooltip(f"{field}:N") for field in ("kind", "devices", "batch")]
    tooltip += [alt.Tooltip(f"{field}:Q", format=".3~g") for field in ("speedup", "low", "high", "images_per_s")]
    base = alt.Chart(alt.NamedData("gains"))
    chart = alt.layer(
        alt.Chart(alt.NamedData("proportional")).mark_line(strokeDash=[4, 4], color=INK, opacity=0.5).encode(x, y),
        base.mark_line(strokeWidth=2).encode(x, y, kind),
        base.mark_rule(strokeWidth=2).encode(x, alt.Y("low:Q", title=SPEED), alt.Y2("high:Q"), kind),
        base.mark_point(filled=True, size=80, opacity=1).encode(x, y, kind, shape, tooltip=tooltip),
    )  # fmt: skip
    about = f"{name}: speed-up against devices with 95 % intervals; the dashed line is a proportional gain."
    ends = [{"factor": end, "speedup": end} for end in (1.0, most)]
    return finish(f"scaling-{number}", name, about, chart, {"gains": rows, "proportional": ends})


def _rows(gains: Sequence[Gain]) -> Iterator[dict[str, Any]]:
    """Yield the baseline of each kind and the latest gain of each number of devices."""
    for kind in KINDS:
        latest = {gain.cases[1].devices: gain for gain in gains if gain.weak == (kind == "weak")}
        for place, gain in enumerate(latest[devices] for devices in sorted(latest)):
            one, other = gain.cases
            if place == 0:
                yield _point(kind, 1.0, one.devices, _batch(gain, 0), (1.0, 1.0, 1.0), gain.images_per_s[0])
            if gain.speedup is not None:
                factor = other.devices / one.devices
                yield _point(kind, factor, other.devices, _batch(gain, 1), gain.speedup, gain.images_per_s[1])


def _point(kind: str, factor: float, devices: int, batch: str, speedup: Interval, speed: float) -> dict[str, Any]:
    value, low, high = speedup
    return {
        "kind": kind, "factor": factor, "devices": str(devices), "batch": batch, "speedup": value, "low": low,
        "high": high, "images_per_s": speed,
    }  # fmt: skip


def _batch(gain: Gain, side: int) -> str:
    return ", ".join(dict.fromkeys(str(stage.batch_size) for stage in gain.cases[side].scenario.stages))


def _grid(found: Sequence[tuple[StoredComparison, Gain]]) -> Grid:
    rows = []
    for stored, gain in found:
        one, other = gain.cases
        pays = break_even(stored, gain)
        images = f"{pays.images[0]:.3g}" if pays.images is not None else pays.note
        accuracy = gain.accuracies
        cells = (
            _name(gain), "weak" if gain.weak else "strong", f"{one.devices} → {other.devices}",
            f"{_batch(gain, 0)} → {_batch(gain, 1)}", *(f"{speed:.3g}" for speed in gain.images_per_s),
            _interval(gain.speedup, "× {:.2f}", "{:.2f}") or gain.note,
            _interval(gain.efficiency, "{:.0%}", "{:.0%}") or "–",
            f"{accuracy.one:.1%} → {accuracy.other:.1%}" if accuracy else "–", images,
        )  # fmt: skip
        rows.append(GridRow(tuple(map(plain, cells))))
    columns = ("case", "scaling", "devices", "batch", "images/s, first", "images/s, further", "speed-up", "efficiency",
               "accuracy", "pays from images")  # fmt: skip
    return Grid("Speed of further devices", columns, tuple(rows), words=4, folded=False)


def _interval(values: Interval | None, whole: str, end: str) -> str:
    return "" if values is None else f"{whole.format(values[0])} ({end.format(values[1])}–{end.format(values[2])})"
