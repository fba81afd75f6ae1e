"""The resolution of a machine: the number of pairs that a change of a given size needs, from an A/A test."""

from __future__ import annotations

import math

import msgspec
import scipy

from results.storage.comparison import LOOKS, Comparison
from results.verdicts.estimate import CONFIDENCE, POWER, TRIM

CHANGES = (0.03, 0.05, 0.10)
MOST = 2_000


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The resolution for one case: standard error of a pair in log units, visible change per look, pairs per change.

    `pairs` is None for more than `MOST`.
    """

    label: str
    pair_error: float
    visible: dict[int, float]
    pairs: dict[float, int | None]


def resolution(aa: Comparison) -> Resolution:
    """Calculate the resolution from an A/A comparison. Raises ValueError for too few pairs."""
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
    """Return the number of pairs that show a change of this size four times out of five.

    >>> pairs_needed(0.02, 0.10), pairs_needed(0.02, 0.05)
    (5, 6)
    """
    for pairs in range(5, MOST + 1):
        if _visible(pair_error, pairs) <= change:
            return pairs
    return None


def sentences(found: Resolution) -> list[str]:
    """Describe the resolution in two sentences."""
    looks = ", ".join(f"{100 * visible:.1f} % with {look} pairs" for look, visible in found.visible.items())
    needed = ", ".join(
        f"+{100 * change:.0f} % needs {pairs if pairs is not None else f'more than {MOST}'} pairs"
        for change, pairs in found.pairs.items()
    )
    return [f"{found.label}: the smallest visible change is {looks} (four times out of five)", needed]


def _visible(pair_error: float, pairs: int) -> float:
    error = pair_error / math.sqrt(pairs)
    return math.expm1((_reach(pairs, (1 + CONFIDENCE) / 2) + _reach(pairs, POWER)) * error)


def _reach(pairs: int, probability: float) -> float:
    return float(scipy.stats.t.ppf(probability, pairs - 2 * int(TRIM * pairs) - 1))
