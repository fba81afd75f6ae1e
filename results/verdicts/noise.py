"""What a machine can resolve: from the scatter of an A/A test, how many pairs a change of a given size would take."""

from __future__ import annotations

import math

import msgspec
from scipy import stats

from results.storage.comparison import LOOKS, Comparison
from results.verdicts.estimate import CONFIDENCE, POWER, TRIM

CHANGES = (0.03, 0.05, 0.10)
MOST = 2_000
"""Pairs beyond which nobody would wait."""


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Of one case on one machine: standard error of a single pair, in log units; what the looks would see; and pairs
    per change, None for more than `MOST`."""

    label: str
    pair_error: float
    visible: dict[int, float]
    pairs: dict[float, int | None]


def resolution(aa: Comparison) -> Resolution:
    """Of an A/A comparison of time. Raises ValueError where it has too few pairs."""
    finding = next((one for one in aa.findings if one.metric == "throughput" and not one.note), None)
    if finding is None:
        raise ValueError(f"{aa.label} has too few pairs")
    error = (finding.high - finding.low) / 2 / _reach(finding.replicates, (1 + CONFIDENCE) / 2)
    single = error * math.sqrt(finding.replicates)
    return Resolution(
        label=aa.label,
        pair_error=single,
        visible={look: _visible(single, look) for look in LOOKS},
        pairs={change: pairs_needed(single, change) for change in CHANGES},
    )


def pairs_needed(pair_error: float, change: float) -> int | None:
    """Pairs after which a change of that size leaves zero outside the interval four times out of five.

    >>> pairs_needed(0.02, 0.10), pairs_needed(0.02, 0.05)
    (5, 6)
    """
    for pairs in range(5, MOST + 1):
        if _visible(pair_error, pairs) <= change:
            return pairs
    return None


def sentences(found: Resolution) -> list[str]:
    """For people."""
    looks = ", ".join(f"{100 * visible:.1f} % with {look} pairs" for look, visible in found.visible.items())
    needed = ", ".join(
        f"+{100 * change:.0f} % takes {pairs if pairs is not None else f'more than {MOST}'} pairs"
        for change, pairs in found.pairs.items()
    )
    return [f"{found.label}: a change of {looks} can be told from none (four times out of five)", f"{needed}"]


def _visible(pair_error: float, pairs: int) -> float:
    error = pair_error / math.sqrt(pairs)
    return math.expm1((_reach(pairs, (1 + CONFIDENCE) / 2) + _reach(pairs, POWER)) * error)


def _reach(pairs: int, probability: float) -> float:
    return float(stats.t.ppf(probability, pairs - 2 * int(TRIM * pairs) - 1))
