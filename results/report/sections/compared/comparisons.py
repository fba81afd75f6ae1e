"""Comparisons of two sides: the verdicts, every finding with its interval, and every pair as a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from results.report.drawing import finish, height_of
from results.report.section import Chart, Grid, GridRow, Section
from results.storage.comparison import Comparison, Finding
from results.storage.rows import PairRow
from results.tables.wording import plain
from results.verdicts.comparison_text import differences
from results.verdicts.conclusion import margin_of, signed, visible
from results.verdicts.noise import resolution, sentences
from results.verdicts.pair_findings import log_ratio
from results.verdicts.stored_comparisons import StoredComparison

DRAWN = 12
"""Largest number of comparisons whose pairs are drawn: the latest."""
COLOURS = {"regression": "#D55E00", "improvement": "#009E73", "no change": "#1B7FC4", "inconclusive": "#8C8C8C"}
MARKS = ("triangle-down", "triangle-up", "circle", "square")
NO_VERDICT = "comparisons have no verdict: they were interrupted, or belong to tune or explain."
SHAPES = {"counts": "circle", "disturbed": "cross", "re-run": "diamond"}


def comparisons_section(compared: Sequence[StoredComparison]) -> Section | None:
    """Show the comparisons of a results folder; None without any. A/A tests are in `noise_section`."""
    shown = [one for one in compared if one.comparison is None or one.comparison.purpose not in ("noise", "scaling")]
    if not shown:
        return None
    done = [(one, one.comparison) for one in shown if one.comparison is not None]
    comparisons = [comparison for _, comparison in done]
    cut = len(shown) - len(done)
    drawn = [(one, comparison) for one, comparison in done if any(_ratios(one.pairs))][-DRAWN:]
    return Section(
        "comparisons",
        "Comparisons",
        paragraphs=tuple(plain(f"{one.label}: {one.verdict}. {one.sentence}") for one in comparisons),
        charts=(
            *([_forest(comparisons)] if any(map(_measured, comparisons)) else []),
            *(_pairs(number, one, comparison) for number, (one, comparison) in enumerate(drawn)),
        ),
        grids=(_findings(comparisons), _differing(comparisons)) if comparisons else (),
        notes=(
            *((f"{cut} of {len(shown)} {NO_VERDICT}",) if cut else ()),
            *((f"Pairs of the latest {len(drawn)} comparisons are drawn.",) if len(drawn) < len(done) else ()),
        ),
    )


def noise_section(compared: Sequence[StoredComparison]) -> Section | None:
    """Show the resolution of this machine from its A/A tests; None without any."""
    tests = [one.comparison for one in compared if one.comparison is not None and one.comparison.purpose == "noise"]
    texts = []
    for test in tests:
        try:
            texts.append(plain(". ".join(sentences(resolution(test))) + "."))
        except ValueError as error:
            texts.append(plain(f"{error}."))
    if not tests:
        return None
    return Section("noise", "Noise of this machine", paragraphs=tuple(texts), grids=(_findings(tests),))


def _measured(one: Comparison) -> list[Finding]:
    return [finding for finding in (*one.findings, *one.confirmation) if not finding.note]


def _forest(comparisons: Sequence[Comparison]) -> Chart:
    rows = []
    for one in comparisons:
        for finding in _measured(one):
            change, low, high = signed(finding)
            again = " (re-run)" if finding in one.confirmation else ""
            unit = "points" if finding.unit == "points" else "%"
            rows.append(
                {
                    "what": plain(f"{finding.metric}{again} · {one.label}"), "change": change, "low": low, "high": high,
                    "verdict": finding.verdict, "unit": unit, "replicates": finding.replicates,
                    "worse": -margin_of(finding), "better": margin_of(finding),
                }
            )  # fmt: skip
    names = list(dict.fromkeys(str(row["what"]) for row in rows))
    y = alt.Y("what:N", sort=names, title=None, axis=alt.Axis(labelLimit=220))
    verdict, legend = list(COLOURS), alt.Legend(title=None)
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=verdict, range=list(COLOURS.values())), legend=legend)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=verdict, range=list(MARKS)), legend=legend)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("what", "verdict", "unit", "replicates")]
    tooltip += [alt.Tooltip(f"{name}:Q", format="+.2~f") for name in ("change", "low", "high")]
    base = alt.Chart(alt.NamedData("findings"))
    chart = alt.layer(
        base.mark_bar(opacity=0.12, color="#8C8C8C").encode(alt.X("worse:Q", title=CHANGE), alt.X2("better:Q"), y),
        base.mark_rule(strokeWidth=2.5).encode(alt.X("low:Q", title=CHANGE), alt.X2("high:Q"), y, colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            alt.X("change:Q", title=CHANGE), y, colour, shape, tooltip=tooltip
        ),
    )
    about = "Every finding with its interval, and the margin as a band around zero."
    data, height = {"findings": rows}, height_of(len(names))
    return finish("comparisons-findings", "From A to B", about, chart, data, height=height)._replace(wide=True)


CHANGE = "change from A to B, % or points"


def _ratios(pairs: Sequence[PairRow]) -> Iterator[tuple[PairRow, float]]:
    """Yield each valid pair with the change of its throughput from A to B, in per cent."""
    for pair in pairs:
        try:
            yield pair, 100 * math.expm1(-log_ratio(pair.order, pair.a, pair.b))
        except ValueError:
            continue


def _pairs(number: int, one: StoredComparison, comparison: Comparison) -> Chart:
    rows: list[dict[str, Any]] = [
        {
            "place": place, "change": change, "order": pair.order,
            "kind": "re-run" if pair.confirms else "counts" if pair.counts else "disturbed",
            "why": plain("; ".join(pair.disturbed)) or "undisturbed",
        }
        for place, (pair, change) in enumerate(_ratios(one.pairs), 1)
    ]  # fmt: skip
    found = [signed(finding) for finding in _measured(comparison) if finding.metric == "throughput"][:1]
    lines = [{"at": change, "low": low, "high": high} for change, low, high in found]
    kinds = alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("place", "kind", "order", "why")]
    y = alt.Y("change:Q", title="throughput of B over A, %", scale=alt.Scale(zero=True))
    chart = alt.layer(
        alt.Chart(alt.NamedData("estimate")).mark_rect(opacity=0.15, color="#1B7FC4").encode(
            alt.Y("low:Q", title="throughput of B over A, %"), alt.Y2("high:Q")
        ),
        alt.Chart(alt.NamedData("estimate")).mark_rule(color="#1B7FC4", strokeWidth=2).encode(alt.Y("at:Q")),
        alt.Chart(alt.NamedData("pairs")).mark_point(filled=True, size=60, opacity=0.9, color="#D55E00").encode(
            alt.X("place:Q", title="pair", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False)),
            y,
            alt.Shape("kind:N", scale=kinds, legend=alt.Legend(title=None)),
            tooltip=[*tooltip, alt.Tooltip("change:Q", format="+.2~f")],
        ),
    )  # fmt: skip
    label = plain(comparison.label)
    about = f"{label}: the change of every pair in order, with the estimate and its interval."
    return finish(f"comparisons-{number}", label, about, chart, {"pairs": rows, "estimate": lines})


def _findings(comparisons: Sequence[Comparison]) -> Grid:
    rows = []
    for one in comparisons:
        for finding in (*one.findings, *one.confirmation):
            change, low, high = signed(finding)
            unit = "points" if finding.unit == "points" else "%"
            p = "–" if finding.p_adjusted is None else f"{finding.p_adjusted:.3g}"
            figures = (f"{change:+.1f} {unit}", f"{low:+.1f} to {high:+.1f}", f"{finding.p:.3g}", p,
                       f"{margin_of(finding):.1f}", f"{visible(finding):.1f}", str(finding.replicates))  # fmt: skip
            again = "re-run" if finding in one.confirmation else "first"
            cells = ("–",) * len(figures) if finding.note else figures
            verdict = f"{finding.verdict}{f' ({finding.note})' if finding.note else ''}"
            rows.append(GridRow(tuple(map(plain, (one.label, finding.metric, again, verdict, *cells)))))
    columns = ("case", "metric", "run", "verdict", "change", "95 % interval", "p", "p over all cases", "margin",
               "smallest visible", "replicates")  # fmt: skip
    return Grid("Every finding", columns, tuple(rows), words=4)


def _differing(comparisons: Sequence[Comparison]) -> Grid:
    rows = []
    for one in comparisons:
        sides = [plain(f"{side.text}{f' at {side.revision[:12]}' if side.revision else ''}") for side in one.sides]
        rows += [GridRow((plain(one.label), *sides, plain(line))) for line in differences(one)]
    return Grid("Differences between the sides", ("case", "A", "B", "difference"), tuple(rows), words=4)
