"""Many cases at once: the chance that one of them looks different by accident."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from results.comparison import Comparison


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
