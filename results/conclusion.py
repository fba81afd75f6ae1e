"""From findings to one verdict and one sentence: a regression counts only if an independent re-run finds it, too."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from results.comparison import Comparison, Finding, Verdict
from results.metric import METRICS


def conclude(comparison: Comparison, *, confirmed: bool = True) -> Comparison:
    """Fill in `verdict` and `sentence`. Without `confirmed`, a regression needs no re-run.

    Any regression decides, whatever else improved: a faster arm that learned less is a regression (V49). Else what was
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


def _found_again(finding: Finding, again: Mapping[str, Finding]) -> bool:
    return finding.metric in again and again[finding.metric].verdict == "regression"


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
