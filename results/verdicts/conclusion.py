"""One verdict and one sentence from all findings. A regression counts only if an independent re-run confirms it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from results.storage.comparison import Comparison, Finding, Verdict
from results.tables.columns import METRICS


def conclude(comparison: Comparison, *, confirmed: bool = True) -> Comparison:
    """Set `verdict` and `sentence`. Without `confirmed`, a regression needs no re-run.

    A regression in any metric decides. Otherwise the first finding decides, which is throughput if it was measured;
    `no change` also needs that no other metric is inconclusive.
    """
    worse = [finding for finding in comparison.findings if finding.verdict == "regression"]
    again = {finding.metric: finding for finding in comparison.confirmation}
    repeated = {metric for metric, finding in again.items() if finding.verdict == "regression"}
    sure = [one for one in worse if not confirmed or one.metric in repeated]
    verdict: Verdict
    if sure:
        verdict = "regression"
        sentence = "; ".join(describe(again.get(one.metric, one)) for one in sure)
        sentence += " (confirmed by a re-run)" if confirmed else ""
    elif worse:
        verdict = "inconclusive"
        sentence = "; ".join(f"{describe(one)}, not confirmed by a re-run" for one in worse)
    else:
        first = comparison.findings[0]
        others = [one for one in comparison.findings[1:] if one.verdict == "inconclusive"]
        verdict = "inconclusive" if first.verdict == "no change" and others else first.verdict
        sentence = "; ".join(describe(one) for one in (first, *others))
    return replace(comparison, verdict=verdict, sentence=sentence)


def describe(finding: Finding) -> str:
    """Describe one finding.

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
    """Return the change of the metric from A to B with its bounds, in per cent or in points of accuracy.

    A metric that is better when higher falls when its cost rises.
    """
    sign = -1 if finding.metric in METRICS and METRICS[finding.metric].higher_is_better else 1
    costs = [sign * value for value in (finding.change, finding.low, finding.high)]
    change, *bounds = costs if finding.unit == "points" else [100 * math.expm1(cost) for cost in costs]
    return change, min(bounds), max(bounds)


def margin_of(finding: Finding) -> float:
    """Return the margin in per cent, or in points of accuracy."""
    return finding.margin if finding.unit == "points" else 100 * finding.margin


def visible(finding: Finding) -> float:
    """Return the smallest visible change in per cent, or in points of accuracy."""
    return finding.detectable if finding.unit == "points" else 100 * math.expm1(finding.detectable)


def adjusted(comparisons: Sequence[Comparison], planned: int = 0) -> list[Comparison]:
    """Adjust the p of each finding for the number of cases, metric by metric (Holm 1979; statsmodels).

    `planned` is the number of comparisons of a plan that several machines measure in parts. The p of those that are not
    here count as 1, so that the result is never smaller than that of one adjustment over all.
    """
    metrics = dict.fromkeys(finding.metric for one in comparisons for finding in one.findings)
    values: dict[tuple[int, str], float] = {}
    for metric in metrics:
        raw = [(n, f.p) for n, one in enumerate(comparisons) for f in one.findings if f.metric == metric]
        values |= {
            (n, metric): p
            for (n, _), p in zip(raw, holm([*(p for _, p in raw), *[1.0] * (planned - len(raw))]), strict=False)
        }
    return [
        replace(one, findings=tuple(replace(f, p_adjusted=values[n, f.metric]) for f in one.findings))
        for n, one in enumerate(comparisons)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p values, in the given order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]
