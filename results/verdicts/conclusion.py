"""From findings to one verdict and one sentence: a regression counts only if an independent re-run finds it, too.

Over many cases, p-values are adjusted for their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from results.storage.comparison import Comparison, Finding, Verdict
from results.tables.columns import METRICS


def conclude(comparison: Comparison, *, confirmed: bool = True) -> Comparison:
    """Fill in `verdict` and `sentence`. Without `confirmed`, a regression needs no re-run.

    Any regression decides, whatever else improved: a faster side that learned less is a regression. Else what was
    found of throughput decides, or, where nothing was measured of it, the first finding; and `no change` needs every
    metric to say so.
    """
    worse = [finding for finding in comparison.findings if finding.verdict == "regression"]
    again = {finding.metric: finding for finding in comparison.confirmation}
    sure = [
        one for one in worse if not confirmed or (one.metric in again and again[one.metric].verdict == "regression")
    ]
    verdict: Verdict
    if sure:
        verdict = "regression"
        sentence = "; ".join(describe(again.get(one.metric, one)) for one in sure)
        sentence += " (found twice)" if confirmed else ""
    elif worse:
        verdict = "inconclusive"
        sentence = "; ".join(f"{describe(one)}, but a re-run did not find it again" for one in worse)
    else:
        first = comparison.findings[0]
        others = [one for one in comparison.findings[1:] if one.verdict == "inconclusive"]
        verdict = "inconclusive" if first.verdict == "no change" and others else first.verdict
        sentence = "; ".join(describe(one) for one in (first, *others))
    return replace(comparison, verdict=verdict, sentence=sentence)


def describe(finding: Finding) -> str:
    """One finding for people.

    >>> describe(Finding(metric="throughput", verdict="regression", change=0.05, low=0.04, high=0.06, p=0.001,
    ...     replicates=10, margin=0.03, detectable=0.04))
    'throughput -4.9 % (-5.8 to -3.9): regression'
    """
    if finding.note:
        return f"{finding.metric}: {finding.verdict} ({finding.note})"
    change, low, high = signed(finding)
    unit = "points" if finding.unit == "points" else "%"
    return f"{finding.metric} {change:+.1f} {unit} ({low:+.1f} to {high:+.1f}): {finding.verdict}"


def signed(finding: Finding) -> tuple[float, float, float]:
    """Estimate and bounds as the metric itself changed from A to B: in per cent, or in points of accuracy.

    A metric of which more is better falls when its cost rises.
    """
    falls = finding.metric in METRICS and METRICS[finding.metric].higher_is_better
    sign = -1 if falls else 1
    if finding.unit == "points":
        values = [sign * value for value in (finding.change, finding.low, finding.high)]
    else:
        values = [100 * math.expm1(sign * value) for value in (finding.change, finding.low, finding.high)]
    change, *bounds = values
    return change, min(bounds), max(bounds)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with each finding's p adjusted over the cases, metric by metric (Holm 1979; statsmodels)."""
    metrics = dict.fromkeys(finding.metric for one in comparisons for finding in one.findings)
    values: dict[tuple[int, str], float] = {}
    for metric in metrics:
        own = [(n, f.p) for n, one in enumerate(comparisons) for f in one.findings if f.metric == metric]
        values |= {(n, metric): p for (n, _), p in zip(own, holm([p for _, p in own]), strict=True)}
    return [
        replace(one, findings=tuple(replace(f, p_adjusted=values[n, f.metric]) for f in one.findings))
        for n, one in enumerate(comparisons)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]
