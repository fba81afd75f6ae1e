"""Comparisons as text for the terminal, and as markdown for a pull request or a step summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results.storage.comparison import Comparison, Finding, SideFacts
from results.tables.render import escape, markdown_table
from results.tables.sheet import Heading
from results.tables.wording import plain
from results.verdicts.conclusion import margin_of, signed, visible

LEVEL = "95 %"
"""Name of the intervals: 97.8 % at each of three looks gives 95 % over all looks (`simulate`)."""
TITLES = ("case", "metric", "change", "95 % interval", "p adjusted", "smallest visible", "verdict")
MARKS = {"regression": "✗", "improvement": "✓", "no change": "=", "inconclusive": "?"}


def as_text(comparisons: Sequence[Comparison]) -> str:
    """Write each comparison: the differences between the sides, a line per metric, and the verdict."""
    return "\n".join("\n".join(_lines(one)) + "\n" for one in comparisons)


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Write the verdicts, one table over all comparisons, and the differences between the sides."""
    rows = []
    for one in comparisons:
        for finding in (*one.findings, *one.confirmation):
            change, low, high, unit = _figures(finding)
            where = f"{one.label}{' (re-run)' if finding in one.confirmation else ''}"
            p = "–" if finding.p_adjusted is None else f"{finding.p_adjusted:.3g}"
            rows.append((where, finding.metric, f"{change:+.1f} {unit}", f"{low:+.1f} to {high:+.1f}", p,
                         f"{visible(finding):.1f} {unit}", f"{MARKS[finding.verdict]} {finding.verdict}"))  # fmt: skip
    table = markdown_table([Heading(title, False) for title in TITLES], rows)
    verdicts = [f"**{escape(one.label)}: {one.verdict}** – {escape(_sentence(one))}" for one in comparisons]
    differing = [f"- {escape(line)}" for one in comparisons[:1] for line in differences(one)]
    return "\n".join([*verdicts, "", *table, "", "Differences between the sides:", "", *differing]) + "\n"


def differences(comparison: Comparison) -> list[str]:
    """Return a line per difference between the sides, or one line for an A/A test."""
    if not comparison.differs:
        return ["the sides are equal: this is an A/A test"]
    return [f"{one.field}: {_short(one.a)} in A, {_short(one.b)} in B" for one in comparison.differs]


def _lines(one: Comparison) -> Iterator[str]:
    yield plain(f"{one.label}: A {_side(one.sides[0])}, B {_side(one.sides[1])}")
    yield from (f"  {plain(line)}" for line in differences(one))
    for title, findings in (("", one.findings), ("re-run: ", one.confirmation)):
        for finding in findings:
            yield f"  {MARKS[finding.verdict]} {title}{_line(finding)}"
            if finding.explanation:
                yield f"      {finding.explanation}"
    repeated = f", {one.repeated_pairs} of them repeated after disturbances" if one.repeated_pairs else ""
    pairs = max((finding.replicates for finding in one.findings if finding.looks), default=0)
    yield f"  {pairs} pairs{repeated}, {one.seconds / 60:.1f} min"
    yield f"{plain(one.label)}: {one.verdict} – {plain(_sentence(one))}"


def _line(finding: Finding) -> str:
    if finding.note:
        return f"{finding.metric}: {finding.verdict}, {finding.note}"
    change, low, high, unit = _figures(finding)
    kind = "seeds" if finding.unit == "points" else "pairs"
    adjusted = "" if finding.p_adjusted is None else f", {finding.p_adjusted:.3g} over all cases"
    return (
        f"{finding.metric} {change:+.1f} {unit} ({LEVEL}: {low:+.1f} to {high:+.1f}): {finding.verdict}; "
        f"{finding.replicates} {kind}, p {finding.p:.3g}{adjusted}; margin {margin_of(finding):.1f} {unit}, "
        f"smallest visible change {visible(finding):.1f} {unit}"
    )


def _figures(finding: Finding) -> tuple[float, float, float, str]:
    return *signed(finding), "points" if finding.unit == "points" else "%"


def _sentence(one: Comparison) -> str:
    return f"{one.sentence}; accepted: {one.accepted}" if one.accepted else one.sentence


def _side(side: SideFacts) -> str:
    revision = f" at {side.revision[:8]}{'+' if side.revision.endswith('+') else ''}" if side.revision else ""
    return f"{side.text}{revision}"


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}…"
